"""Where the published sets are and how their columns are called: plain data, one entry a set.

An entry's `columns` say which published column each of ours is read from: `rule:column` (rules are in
`sftrl.problems.rules`), or several such separated by `|`, of which the first whose column exists is read, because
copies of one set name their columns differently; a `?` at the end lets it be absent. `where` keeps the rows whose
column holds one of the values. `expected` is the number of rows kept of the named copy. `tolerance` is the relative
error that the benchmark itself allows a number; None where it defines none. `revision` is the commit that public code
or a public catalogue of data sets names with that row count; where none was found there is none. What could not be
confirmed without the hub is marked in `docs/data.md`.
"""

MATH_SUBJECTS = [
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
]
MMLU_MATHS = [
    "abstract_algebra",
    "college_mathematics",
    "elementary_mathematics",
    "high_school_mathematics",
    "high_school_statistics",
]
_MATH = {
    "hub": "EleutherAI/hendrycks_math",
    "revision": "21a5633873b6a120296cce3e2df9d5550074f4a3",
    "config": MATH_SUBJECTS,
    "columns": {
        "problem": "problem",
        "answer": "answer|boxed:solution",
        "solution": "solution?",
        "level": "level|difficulty?",
    },
}
_AIME = {"answer_type": "integer", "tolerance": None}

BENCHMARKS = {
    # The seven tasks that independent readers of the paper name.
    "math500": {
        "hub": "HuggingFaceH4/MATH-500",
        "revision": "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        "split": "test",
        "columns": {
            "id": "unique_id",
            "problem": "problem",
            "answer": "answer",
            "solution": "solution",
            "level": "level",
        },
        "answer_type": None,
        "tolerance": None,
        "expected": 500,
    },
    "aime_1983_2024": {
        **_AIME,
        "hub": "di-zhang-fdu/AIME_1983_2024",
        "revision": "3e2cc86390666c5c756622afc0eeb9e6194496bc",
        "split": "train",
        "columns": {
            "id": "ID?",
            "problem": "Question|problem",
            "answer": "number:Answer|number:answer",
            "solution": "solution?",
            "level": "Year|year",
        },
        "expected": 933,
    },
    "aime_2025": {
        **_AIME,
        "hub": "opencompass/AIME2025",
        "revision": "a6ad95f611d72cf628a80b58bd0432ef6638f958",
        "config": ["AIME2025-I", "AIME2025-II"],
        "split": "test",
        "columns": {"problem": "question|problem", "answer": "number:answer"},
        "expected": 30,
    },
    "gsm8k": {
        "hub": "openai/gsm8k",
        "revision": "740312add88f781978c0658806c59bc2815b9866",
        "config": "main",
        "split": "test",
        "columns": {"problem": "question", "answer": "gsm8k:answer", "solution": "answer"},
        "answer_type": "integer",
        "tolerance": None,
        "expected": 1319,
    },
    "amc": {
        "hub": "AI-MO/aimo-validation-amc",
        "revision": "69d78a4a2c840e82d69af6bc742bda09005f6316",
        "split": "train",
        "columns": {"id": "id?", "problem": "problem", "answer": "number:answer", "level": "difficulty?"},
        "answer_type": "integer",
        "tolerance": None,
        "expected": 83,
    },
    "olympiadbench": {
        "hub": "Hothan/OlympiadBench",
        "config": "OE_TO_maths_en_COMP",  # open-ended, text only, maths, English, competition
        "split": "train",
        "columns": {
            "id": "id",
            "problem": "question",
            "answer": "joined:final_answer",
            "answer_type": "answer_type",
            "several": "is_multiple_answer",
            "solution": "first:solution",
            "level": "subfield",
        },
        "answer_type": {
            "Numerical": "number",
            "Expression": "expression",
            "Equation": "equation",
            "Interval": "interval",
            "Tuple": "tuple",
            "several": "set",
        },
        "tolerance": 1e-8,
        "expected": 674,
    },
    "minerva": {
        "hub": "svc-huggingface/minerva-math",
        "split": ["test", "train"],  # public code names both
        "columns": {
            "problem": "problem|question",
            "answer": "boxed:solution|answer",
            "solution": "solution?",
            "level": "type?",
        },
        "answer_type": None,
        "tolerance": 0.01,
        "expected": 272,
    },
    # The other list of the paper's tasks (MATH and GSM8K are shared).
    "math": {**_MATH, "split": "test", "answer_type": None, "tolerance": None, "expected": 5000},
    "mmlu_math": {
        "hub": "cais/mmlu",
        "revision": "c30699e8356da336a370243923dbaf21066bb9fe",
        "config": MMLU_MATHS,
        "split": "test",
        "columns": {
            "problem": "question",
            "answer": "letter:answer",
            "choices": "options:choices",
            "level": "subject|type",
        },
        "where": {"subject|type": MMLU_MATHS},
        "answer_type": "choice",
        "tolerance": None,
        "expected": 1064,
    },
    "aime_2024": {
        **_AIME,
        "hub": "HuggingFaceH4/aime_2024",
        "revision": "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        "split": "train",
        "columns": {
            "id": "id",
            "problem": "problem",
            "answer": "number:answer",
            "solution": "solution",
            "level": "year?",
        },
        "expected": 30,
    },
    "imo_answerbench": {
        "hub": "Hwilner/imo-answerbench",
        "revision": "0258becbd00fc07d34862bc8539e61c8742f0d14",
        "split": "train",
        "columns": {
            "id": "Problem ID",
            "problem": "Problem",
            "answer": "Short Answer",
            "level": "Category",
        },
        "answer_type": None,
        "tolerance": None,
        "expected": 400,
    },
    "tal_scq5k_en": {
        "hub": "math-eval/TAL-SCQ5K",
        "data_dir": "TAL-SCQ5K-EN",
        "split": "test",
        "columns": {
            "id": "queId",
            "problem": "problem",
            "answer": "letter:answer_value",
            "choices": "aoval:answer_option_list",
            "level": "difficulty",
        },
        "answer_type": "choice",
        "tolerance": None,
        "expected": 2000,
    },
    "mathvista": {
        "hub": "AI4Math/MathVista",
        "split": "testmini",
        "columns": {"id": "pid", "problem": "query|question", "answer": "answer"},
        "answer_type": None,
        "tolerance": None,
        "expected": 1000,
        "images": "needed",  # a model that reads text alone cannot see what is asked about
    },
}

PAPER_LISTS = {
    "readers": ["math500", "aime_1983_2024", "aime_2025", "gsm8k", "amc", "olympiadbench", "minerva"],
    "summary": ["math", "mmlu_math", "gsm8k", "aime_1983_2024", "imo_answerbench", "tal_scq5k_en", "mathvista"],
}

RL_PROBLEMS = {
    "math_train": {
        **_MATH,
        "split": "train",
        "answer_type": None,
        "tolerance": None,
        "expected": 7500,
        "incomplete": "drop",
    },
    "deepscaler": {
        "hub": "agentica-org/DeepScaleR-Preview-Dataset",
        "revision": "b6ae8c60f5c1f2b594e2140b91c49c9ad0949e29",
        "split": "train",
        "columns": {"problem": "problem", "answer": "answer", "solution": "solution?"},
        "answer_type": None,
        "tolerance": None,
        "expected": 40_315,
        "incomplete": "drop",
    },
}

SFT_EXAMPLES = {
    "llama_nemotron_math": {
        "hub": "nvidia/Llama-Nemotron-Post-Training-Dataset",
        "revision": "ab2a40d258a6a4d9d4c277d702aeea445081766c",
        "split": "math",
        "data_files": "SFT/math/*.jsonl",  # the code split beside it is as large, and would be fetched too
        "columns": {"prompt": "user:input", "response": "output"},
        "incomplete": "drop",
        "where": {"reasoning": ["on"]},  # chosen here; the others, nine in ten, are one non-reasoning teacher's
    },
    "acereason_math": {
        "hub": "nvidia/AceReason-1.1-SFT",
        "split": "train",
        "columns": {"prompt": "input", "response": "output"},
        "incomplete": "drop",
        "where": {"category": ["math"]},
    },
    "gsm8k_train": {
        "hub": "openai/gsm8k",
        "revision": "740312add88f781978c0658806c59bc2815b9866",
        "config": "main",
        "split": "train",
        "columns": {"prompt": "question", "response": "answer", "answer": "gsm8k:answer"},
        "expected": 7473,
    },
    "math_solutions": {
        "hub": "EleutherAI/hendrycks_math",
        "revision": "21a5633873b6a120296cce3e2df9d5550074f4a3",
        "config": MATH_SUBJECTS,
        "split": "train",
        "columns": {"prompt": "problem", "response": "solution", "answer": "boxed:solution"},
        "expected": 7500,
    },
}
