"""A preallocated key-value cache.

`DynamicCache` copies all keys and values for every token, which takes most of the time with a small model. Here a step
writes only its own token, and when rows leave the batch the others move up in place.
"""

import torch
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, tokens, width): views of buffers with room for `room` tokens."""

    def __init__(self, room: int):
        super().__init__()
        self.room, self.used = room, 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = [self._buffer(states, len(states)) for states in (key_states, value_states)]
        start, self.used = self.used, self.used + key_states.shape[-2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self.used] = states
        self.keys, self.values = (buffer[:, :, : self.used] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        for place, states in enumerate((self.keys, self.values)):
            if len(indices) > len(states):
                self.buffers[place] = self._buffer(states, len(indices))
            self.buffers[place] = self.buffers[place][: len(indices)]
            self.buffers[place][:, :, : self.used] = states[indices]
        self.keys, self.values = (buffer[:, :, : self.used] for buffer in self.buffers)

    def _buffer(self, states: torch.Tensor, rows: int) -> torch.Tensor:
        return states.new_empty(rows, states.shape[1], self.room, states.shape[3])


def roomy_cache(config: PretrainedConfig, room: int) -> DynamicCache:
    """Make a cache for sequences of up to `room` tokens; only attention layers are replaced."""
    cache = DynamicCache(config=config)
    for i, layer in enumerate(cache.layers):
        slides = type(layer) is DynamicSlidingWindowLayer and layer.sliding_window >= room
        if type(layer) is DynamicLayer or slides:
            cache.layers[i] = RoomyLayer(room)
    return cache
