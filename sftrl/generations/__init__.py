"""The store of sampled responses, so that nothing is sampled twice.

A store is a folder. `samples/<shard>/*.parquet` are its parts: immutable files of finished rows, each named by the hash
of its bytes. `store.json` records what was sampled; another model, template, prompt or sampling parameter is an error
that names it. `grades/<verifier>/` holds a grade for every sample and can be redone without sampling. Any Parquet
reader can query it: `SELECT * FROM 'store/samples/*/*.parquet'`.

`Store` is the folder, `grade` grades it, and `summarise` counts for Pass@k. `import_samples` makes a store from another
harness's samples.
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
