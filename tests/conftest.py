"""Four virtual CPU devices, and no shape that fits by accident."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

COMPILED = tempfile.mkdtemp(prefix="lenet_jax_tests_")  # programs that several tests compile
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parents[1]


def apply(module, params: Any, *inputs: Any) -> Any:
    """What a network or a layer makes of its inputs; flax's own type for it says too little."""
    return module.apply({"params": params}, *inputs)


def pytest_sessionfinish():
    shutil.rmtree(COMPILED, ignore_errors=True)


@pytest.fixture(scope="session")
def digits():
    """The embedded set: uint8 images [1797, 28, 28] and labels [1797]."""
    from lenet_jax.data import digits

    arrays = digits.load()
    return (
        np.concatenate([arrays["train_images"], arrays["test_images"]]),
        np.concatenate([arrays["train_labels"], arrays["test_labels"]]).astype(np.int32),
    )


@pytest.fixture(scope="session")
def real_mnist():
    """The folder of the four original files that LENET_JAX_MNIST names."""
    folder = os.environ.get("LENET_JAX_MNIST")
    if not folder:
        pytest.skip("LENET_JAX_MNIST names no folder with the original MNIST files")
    return Path(folder).resolve()


@pytest.fixture
def program(tmp_path):
    """Runs a program of the package as a user would, far from any MNIST."""
    environment = {k: v for k, v in os.environ.items() if k not in ("LENET_JAX_MNIST", "XLA_FLAGS")}
    environment |= {"TFDS_DATA_DIR": str(tmp_path / "tfds"), "COLUMNS": "200"}
    environment |= {"JAX_COMPILATION_CACHE_DIR": COMPILED}

    def run(verb: str, *flags: object, start: bool = False, limit=None, **more):
        command = [sys.executable, "-m", f"lenet_jax.{verb}", *map(str, flags)]
        settings: dict[str, Any] = dict(
            cwd=ROOT, env=environment | more, text=True, preexec_fn=limit,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        if start:
            return subprocess.Popen(command, **settings)
        return subprocess.run(command, timeout=300, **settings)

    return run
