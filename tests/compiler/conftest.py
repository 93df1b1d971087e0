"""Every program that is built here is verified after every pass."""

from functools import wraps

import pytest

from microgrid.compiler import stages, task
from microgrid.compiler.ir import ArrayProgram
from microgrid.compiler.passes.rules import FOR_JAX
from microgrid.compiler.targets import jax, numpy


def verified(module, name, verify, monkeypatch):
    run = getattr(module, name)

    @wraps(run)
    def run_and_verify(*given, **named):
        result = run(*given, **named)
        verify(result, *given)
        return result

    monkeypatch.setattr(module, name, run_and_verify)


@pytest.fixture(autouse=True, scope="module")
def _every_program_is_verified():
    def lifted(found, *_):
        ArrayProgram.of(found.outputs).verify(final=False)

    def differentiated(found, build, outputs, *_):
        ArrayProgram.of([*found, *[output for output, _ in outputs]]).verify(final=False)

    def fused(found, outputs, forward, rules):
        ArrayProgram.of(found).verify(differentiable=rules is FOR_JAX)

    def expanded(found, program, knows, rules):
        found.verify(differentiable=rules is FOR_JAX)

    def finished(found, lifted, signature, task):
        found.verify(differentiable=task.differentiable)

    with pytest.MonkeyPatch.context() as patch:
        verified(stages, "lift", lifted, patch)
        verified(stages, "unroll", lifted, patch)
        verified(task, "gradients", differentiated, patch)
        verified(task, "fuse", fused, patch)
        verified(stages, "array_program", finished, patch)
        for target in (numpy, jax):
            verified(target, "expanded", expanded, patch)
        yield
