"""Reads damaged files, one for each number on standard input, and says what came of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing import subjects
from tvm_eff.errors import Error


def main(folder: Path) -> None:
    """Serve until standard input ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    good, ran = folder / "good", folder / "ran"
    if not good.is_dir():
        good.mkdir()
        subjects.make(good)
    os.environ["TVM_EFF_FUZZ_RAN"] = str(ran)
    answers = os.fdopen(os.dup(1), "w")
    # What readers print is no answer.
    os.dup2(2, 1)
    for line in sys.stdin:
        outcome = _try(int(line), good, folder / "copy", ran)
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


def _try(number: int, good: Path, copy: Path, ran: Path) -> dict[str, str]:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(good, copy)
    ran.unlink(missing_ok=True)
    subject = subjects.mutate(number, copy)
    signal.alarm(subjects.SECONDS)
    refused = ""
    try:
        subject.read(copy)
    except Error as error:
        refused = str(error)
    except BaseException:
        return {"kind": "wrong", "what": f"{subject.file}: {traceback.format_exc()}"}
    finally:
        signal.alarm(0)
    # The library is none of TVM's, so that it is refused in any case: once its code has run.
    if ran.exists() and "cannot be loaded" not in refused:
        return {"kind": "wrong", "what": f"{subject.file}: code ran, and then: {refused}"}
    return {"kind": "refused" if refused else "taken", "what": refused[:200]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
