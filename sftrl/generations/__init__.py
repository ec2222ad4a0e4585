"""The store of sampled responses: what a checkpoint answered, kept so that nothing is ever sampled twice.

A store is a folder. `samples/<shard>/*.parquet` are its parts: whole files of finished rows, only ever added, each
named by the hash of its bytes. `store.json` says what was sampled from what; another model, template, prompt or
sampling parameter is refused by name. `grades/<verifier>/` holds a grade beside every sample and can be redone
without sampling. Any Parquet reader reads it as it is: `SELECT * FROM 'store/samples/*/*.parquet'`.

`Store` is the folder, `grade` the second pass over it, and `summarise` the counts that Pass@k is computed from.
`import_samples` makes a store of what another harness has sampled.
"""

from sftrl.generations.grades import Grader, grade
from sftrl.generations.importers import import_samples, read_problems, require_same_problems
from sftrl.generations.store import Store, sample_seed
from sftrl.generations.summary import Summary, summarise

__all__ = [
    "Grader",
    "Store",
    "Summary",
    "grade",
    "import_samples",
    "read_problems",
    "require_same_problems",
    "sample_seed",
    "summarise",
]
