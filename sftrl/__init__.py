"""Which SFT checkpoint should go to RL? A reproducible study, and the tested core it stands on."""

__version__ = "0.1.0"
