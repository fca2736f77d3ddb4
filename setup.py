"""Package tvm_eff; see scripts/setup_env.py for a one-line installation."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
# Found in a checkout where they are, and in an installed package by tvm_eff/paths.py.
DATA_FOLDERS = ("targets", "tuning_logs", "runtime")
LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
# What compiles: a board that only runs a bundle needs none of it.
COMPILE = [
    "apache-tvm==0.27.0.post1",
    # With 0.1.15, which pip would take, tuning crashes in ToJSONGraph.
    "apache-tvm-ffi==0.1.14.post1",
    "torch==2.13.0",
    # What a library's code is disassembled with.
    "capstone>=5.0",
    "iced-x86>=1.17; sys_platform == 'linux' or platform_machine == 'x86_64'",
    "cloudpickle>=3.0",
    "filelock>=3.13",
    "pebble>=5.0",
    "pillow>=10.0",
    "platformdirs>=4.0",
    "psutil>=5.9",
    "pyelftools>=0.31",
    "rich>=13.7",
    "safetensors>=0.4",
    "tensorly>=0.8",
    "tornado>=6.4",
    # Without CUDA, which xgboost brings on Linux: 6 MB instead of hundreds.
    "xgboost-cpu>=3.2; sys_platform == 'linux'",
    "xgboost>=3.2; sys_platform == 'darwin'",
    "ziglang==0.17.1",
]
# An OpenCL device in software, for GPU targets without a board.
OPENCL = [*COMPILE, f"pocl-binary-distribution==3.0; {LINUX_X86}"]
STUDY = [*COMPILE, "matplotlib>=3.8"]
# Signatures of bundles.
SIGN = ["cryptography>=42"]
# The last Sphinx that runs on Python 3.10, and what fits it.
DOCS = ["furo==2025.12.19", "myst-parser==4.0.1", "sphinx==8.1.3"]
# PyTorch's own quantization after training, which left torch itself with 2.13: for --dtype int8.
QUANTIZE = ["torchao==0.18.0"]


def version() -> str:
    """Return the version that the package states."""
    text = (HERE / "tvm_eff" / "__init__.py").read_text(encoding="utf-8")
    return text.partition('__version__ = "')[2].partition('"')[0]


class BuildWithData(build_py):
    """Copy the data folders into the package, unless it is installed editable."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        for name in DATA_FOLDERS:
            copy = Path(self.build_lib) / "tvm_eff" / "_data" / name
            shutil.rmtree(copy, ignore_errors=True)
            if (HERE / name).is_dir():
                shutil.copytree(HERE / name, copy)


setup(
    name="tvm_eff",
    version=version(),
    description="Efficient CNNs from PyTorch, scheduled by TVM for small boards",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["tvm_eff", "tvm_eff.*"]),
    cmdclass={"build_py": BuildWithData},
    install_requires=[
        # Before, an integer too large for a float ended in a SystemError.
        "msgspec>=0.22",
        "numpy>=1.26",
        "tomli>=2.0; python_version < '3.11'",
        "typing_extensions>=4.10",
    ],
    extras_require={
        "compile": COMPILE,
        "opencl": OPENCL,
        "study": STUDY,
        "docs": DOCS,
        "quantize": QUANTIZE,
        "sign": SIGN,
        "dev": [
            *OPENCL,
            *STUDY,
            *DOCS,
            *QUANTIZE,
            *SIGN,
            "cmake==4.4.5",
            "hypothesis==6.170.17",
            "import-linter==2.17",
            "mypy==2.4.1",
            "ninja==1.13.2",
            "pytest==9.2.0",
            "pytest-xdist==3.8.0",
            "ruff==0.17.6",
            # Images of digits to train on; the last one that runs on Python 3.10.
            "scikit-learn==1.7.2",
            # Another one, which computes in float16.
            f"intel-opencl-rt==2026.2.0; {LINUX_X86}",
            f"intel-cmplr-lib-rt==2026.2.0; {LINUX_X86}",
        ],
    },
    entry_points={
        "console_scripts": ["tvm-eff = tvm_eff.cli.__main__:main"],
        # TVM calls it at its import, in workers and servers too.
        "tvm.backends": ["tvm_eff_opencl = tvm_eff.device.opencl.loading:autoload"],
    },
)
