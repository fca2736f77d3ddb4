"""Which tests are for every change (``fast``), and which need the machine for themselves.

``python -m pytest -n 2 -m fast`` takes 75 seconds and enters every room of the package.
``serial`` are the tests that measure time (``timed`` as well), or wait for something for so long
only that much other work would make them fail. The others may run beside each other: ``python -m
pytest -n 2 --dist loadscope -m "not serial"``, then ``python -m pytest -m serial``, of which
``timed`` and ``not timed`` may run side by side: the latter mostly wait.

A test is fast unless it is named here: it takes more than two seconds of a processor, or it is
one of many of a kind of which some are enough for every change.

``exhaustive`` are cases of tests that have many of one kind, and scripts that try many things by
chance. CI runs some of each kind and leaves these out; ``python -m pytest -n 3 --dist loadscope -m
exhaustive`` runs them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest

# Emulated boards and their server, the tuner's processes, and a whole network lowered.
SLOW_FIXTURES = frozenset(
    {"bench", "builder", "emulated_board", "emulator", "executable", "squeezenet"}
)

SLOW = (
    "test_api",
    "test_compile_in_a_script",
    "test_networks",
    "test_setup_env",
    "test_tiers",
    r"test_compile\.py::test_(?!nothing_is_measured|what_is_wrong|output)",
    "benchmarks/test_(arm|digits|emulated_script|fuzz|layers|operator_calls|peers|random_networks|replay|rules)",
    "benchmarks/test_tuning",
    r"benchmarks/test_hotloops\.py::test_(a_model_without_records|a_network|cycles_of_layers)",
    r"cli/test_cost_command\.py::test_(cost_as_tables|list_of_models)",
    "cli/test_(bisect_command|own_model|records_command|tune_command)",
    "codegen/test_libraries",
    r"codegen/test_opencl_source\.py::test_a_family",
    "deploy/test_(bench|bisect|formats|inspection|library|native|native_bundle|own_data)",
    "deploy/test_(reproducible|size_bound|tvm_eff_run)",
    r"deploy/test_arena\.py::test_no_arena",
    r"deploy/test_proof\.py::test_an_operator_that_cannot_be_compiled",
    "device/opencl/",
    r"docs/test_operators_page\.py::test_rows_are_true",
    "docs/test_(examples|site|first)",
    "device/test_(conformance|emulated|native_server|rpc|spawned_server)",
    "device/test_every_device.*hang_is_cut_off",
    "device/test_strangers",
    r"deploy/test_loaded\.py::test_loading_imports_neither",
    r"device/test_every_device.*\[(rpc|emulated)",
    r"models/test_factorized\.py::test_(all_variants|counts|the_standard_twin)",
    r"models/test_flatten\.py::test_the_error_never_grows",
    r"models/test_state\.py::test_call_by_call",
    r"models/test_quantized_weights\.py::test_a_saved_program_of_torchaos_operators",
    r"models/test_registry\.py::test_outline_counts_like_the_network\[(?!squeezenet\])",
    r"models/test_xception\.py::test_activations",
    r"models/test_zoo\.py::test_every_model\[(?!squeezenet\]|mobilenet\])",
    "frontend/test_converters",
    r"frontend/test_right_on_all_inputs\.py::test_right\[",
    r"frontend/test_operators\.py::test_operator\[(?!amax\]|group_norm\]|nearest\])",
    "passes/relax/test_(channels_last|concatenation|depthwise_chains|fold_scale|half_layers)",
    "passes/relax/test_(half_precision|integers|long_sums)",
    "quantize/test_(choosing|int8_bundles|mixed_bundles)",
    r"passes/test_pipeline\.py::test_what_is_left_computes",
    "passes/tir/test_weight_prefetch",
    "schedules/(strassen|gpu|winograd)/",
    "schedules/cpu/",
    "schedules/test_arm_rules",
    r"schedules/test_metaschedule\.py::test_a_seed_is_one_schedule",
    r"schedules/test_schedule_registry\.py::test_trace_(holds|replays\[.*-rasp)",
    "schedules/test_schedules_(are_right|on_boards)",
    "study/test_study_command",
    "tune/test_(failures|session|unmeasured|weight_bound)",
    r"tune/records/test_database\.py::test_two_sessions_at_once",
    "tune/records/test_prune",
    "tune/records/test_generation",
)

TIMED = (
    # The emulated board counts instructions, which others do not change.
    r"test_api\.py::test_(?!rasp4)",
    "benchmarks/test_peers",
    # The socket of its processes is in a folder of ours, whose name xdist makes too long.
    r"benchmarks/test_tuning\.py::test_our_tuner_delivers",
    "cli/test_front_command",
    "device/opencl/test_timer",
)

WAITING = (
    "device/test_every_device.*(twice_the_work|take_turns|hang_is_cut_off)",
    "device/test_rpc",
    # Another user tries every port that is new, and other tests' servers may have no key: those
    # that are timed have one.
    "device/test_strangers.*through_a_session",
    # Where xdist runs tests, Ctrl-C is seen only once the call has ended.
    r"device/test_spawned_server\.py::test_close_while_the_code_hangs",
    r"tune/test_session\.py::test_(?!traps)",
)

ONE_IN = {
    r"codegen/test_opencl_source\.py::test_a_family": 3,
    r"deploy/test_arena\.py::test_no_arena_of_a_network": 3,
    r"deploy/test_bisect\.py::test_a_corrupted_constant": 2,
    r"deploy/test_bisect\.py::test_a_wrong_epilogue": 3,
    r"deploy/test_reproducible\.py::test_a_date_that_is_none": 2,
    r"deploy/test_reproducible\.py::test_every_byte": 2,
    r"frontend/test_converters\.py::test_generated_calls": 3,
    r"frontend/test_right_on_all_inputs\.py::test_right": 2,
    r"passes/relax/test_half_precision\.py::test_a_family_has_no_kernel_more": 2,
    r"passes/relax/test_half_precision\.py::test_a_network_computes": 3,
    r"passes/relax/test_half_precision\.py::test_kernels_of_any_network": 6,
    r"passes/relax/test_integers\.py::test_operator_is_exact": 2,
    r"schedules/cpu/test_depthwise_bytes\.py::test_exact_on": 3,
    r"schedules/cpu/test_depthwise_chain\.py::test_chains_compute_the_same": 6,
    r"schedules/cpu/test_dot_product_tile\.py::test_candidates_are_exact": 3,
    r"schedules/cpu/test_dot_products_arm\.py::test_tiles_are_exact": 3,
    r"schedules/cpu/test_half_tile\.py::test_right_on_the_board": 3,
    r"schedules/gpu/test_gpu_schedules\.py::test_schedules_are_right": 6,
    r"schedules/strassen/test_strassen\.py::test_row_blocks": 3,
    r"schedules/test_arm_rules\.py::test_they_compute_the_same": 3,
    r"schedules/test_metaschedule\.py::test_a_seed": 2,
    r"schedules/test_schedules_are_right\.py::test_schedules_of": 8,
    r"schedules/test_schedules_on_boards\.py::test_schedules_are_right": 3,
    r"schedules/winograd/test_winograd_half\.py::test_(right_on_the_board|the_library)": 3,
    r"test_compile_in_a_script\.py::test_script_without": 2,
    r"test_networks\.py::test_network": 6,
    r"tune/test_weight_bound\.py::test_no_choice_within": 2,
}
"""Of so many cases of a test, CI runs one; the others are ``exhaustive``."""

EXHAUSTIVE = (
    r"benchmarks/test_arm\.py::test_who_is_told_to_end",
    r"benchmarks/test_fuzz\.py::test_mutations",
    r"benchmarks/test_hotloops\.py::test_(a_network_s_loops|cycles_of_layers)",
    r"benchmarks/test_operator_calls\.py::test_some_calls",
    r"benchmarks/test_random_networks\.py::test_some_networks",
)
"""Scripts that try or measure for as long as one likes; that they see what is wrong is for CI."""


def is_named(test: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is for a test, ``tests/folder/test_file.py::test``."""
    return any(re.match(f"tests/{pattern}", test) for pattern in patterns)


def may_be_serial(file: str) -> bool:
    """Whether a file, ``tests/folder/test_file.py``, may have tests marked as ``serial``."""
    return any(
        re.match(f"tests/{pattern.partition('::')[0].partition('.*')[0]}", file)
        for pattern in TIMED + WAITING
    )


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark tests as ``fast`` or ``exhaustive``, and as ``serial`` and ``timed``."""
    cases: Counter[str] = Counter()
    for item in items:
        file = item.path.relative_to(item.config.rootpath).as_posix()
        test = file + item.nodeid.partition(".py")[2]
        function = test.partition("[")[0]
        if cases[function] % _one_in(function) or is_named(function, EXHAUSTIVE):
            item.add_marker(pytest.mark.exhaustive)
        cases[function] += 1
        fixtures = set(getattr(item, "fixturenames", ()))
        if not is_named(test, SLOW) and SLOW_FIXTURES.isdisjoint(fixtures):
            item.add_marker(pytest.mark.fast)
        if is_named(test, TIMED):
            item.add_marker(pytest.mark.timed)
        if is_named(test, TIMED + WAITING):
            item.add_marker(pytest.mark.serial)


def _one_in(function: str) -> int:
    return next((count for each, count in ONE_IN.items() if is_named(function, [each])), 1)
