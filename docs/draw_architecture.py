"""Draws architecture.svg: the rooms of tvm_eff, the direction of imports, and the flow.

    python docs/draw_architecture.py

The rooms and their order are those of the contract in pyproject.toml, which a test holds
the code to; another test holds the picture to this script.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "architecture.svg"

PURPOSES = {
    "cli": "a verb a file: parses, calls, prints",
    "api": "compile(): options checked",
    "driver": "one compilation, step by step",
    "progress": "what a user sees meanwhile",
    "deploy": "library, bundle, validation, benchmark",
    "worker_preload": "what builders import",
    "tune": "build, measure, check, record",
    "device": "this machine, emulated, RPC, OpenCL",
    "quantize": "calibration, exact reference",
    "frontend": "PyTorch to Relax",
    "schedules": "the design spaces",
    "codegen": "to machine code",
    "passes": "every phase, Relax and TIR, on one page",
    "models": "the zoo: torch, no TVM",
    "targets": "boards as data",
    "testing": "the device contract as tests",
    "failures": "details for a report",
    "strict": "strict reading",
    "paths": "where things lie",
    "scratch": "temporary folders",
    "tensors": "specs, tolerances",
    "errors": "one root of all errors",
}
"""What each room is for."""

FLOW = (
    ("models", "a PyTorch model"),
    ("frontend", "an exported program"),
    ("passes", "a network in Relax"),
    ("schedules", "fused PrimFuncs: the tasks"),
    ("tune", "candidates"),
    ("deploy", "records of what each cost"),
    ("device", "one library, with its weights"),
    ("deploy", "outputs and times"),
)
"""The rooms that a network goes through, and what each takes."""

WIDTH, TOP = 900, 40
LEFT, ROOM_WIDTH, GAP = 24, 520, 8
ROW, STEP = 44, 51
FLOW_X, FLOW_WIDTH = 610, 266
COLOURS = {"room": "#dbeafe", "flow": "#dcfce7", "edge": "#64748b", "text": "#0f172a"}
# Legible on white and on black: what stands outside of the boxes is of a middle grey.
GREY = "#808790"


def layers() -> list[list[str]]:
    """Return the rooms of the contract, the highest layer first."""
    text = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    found = next(each for each in contracts if each["type"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in found["layers"]]


def picture() -> str:
    """Return the picture as SVG."""
    height = TOP + len(layers()) * STEP + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
            '     font-family="system-ui, sans-serif" font-size="13">',
            "<title>The rooms of tvm_eff and what flows through them</title>",
            "<defs>",
            '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"',
            '        markerHeight="7" orient="auto">',
            f'<path d="M0 0 L8 4 L0 8 z" fill="{GREY}"/>',
            "</marker>",
            "</defs>",
            *_rooms(),
            *_flow(),
            "</svg>",
            "",
        ]
    )


def _rooms() -> list[str]:
    parts = [_label(LEFT, 24, "tvm_eff/: imports go down only")]
    for number, rooms in enumerate(layers()):
        y = TOP + number * STEP
        width = (ROOM_WIDTH - GAP * (len(rooms) - 1)) / len(rooms)
        for column, room in enumerate(rooms):
            x = LEFT + column * (width + GAP)
            parts += _box(x, y, width, ROW, room, PURPOSES[room], "room")
    bottom = TOP + len(layers()) * STEP - GAP
    x = LEFT + ROOM_WIDTH + 16
    return [*parts, _arrow(x, 44, x, bottom)]


def _flow() -> list[str]:
    parts = [_label(FLOW_X, 24, "A network's way")]
    step = len(layers()) * STEP / len(FLOW)
    for number, (room, taken) in enumerate(FLOW):
        y = TOP + number * step
        parts += _box(FLOW_X, y, FLOW_WIDTH, ROW, room, f"takes {taken}", "flow")
        if number:
            middle = FLOW_X + FLOW_WIDTH / 2
            parts.append(_arrow(middle, y - step + ROW + 2, middle, y - 3))
    return parts


def _box(x: float, y: float, width: float, height: float, *texts: str) -> list[str]:
    name, purpose, kind = texts
    middle = x + width / 2
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
        f'fill="{COLOURS[kind]}" stroke="{COLOURS["edge"]}"/>',
        f'<text x="{middle:g}" y="{y + 18:g}" text-anchor="middle" font-weight="600" '
        f'fill="{COLOURS["text"]}">{escape(name)}</text>',
        f'<text x="{middle:g}" y="{y + 35:g}" text-anchor="middle" font-size="12" '
        f'fill="{COLOURS["text"]}">{escape(purpose)}</text>',
    ]


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-weight="600" fill="{GREY}">{escape(text)}</text>'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{GREY}" '
        'stroke-width="2" marker-end="url(#tip)"/>'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(PICTURE)
