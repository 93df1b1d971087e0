"""Train a network of scalars on a mesh of devices, through JAX: pip install "microgrid-autograd[jax,data]".

    python examples/train_on_a_mesh.py

The network is written in scalars and compiled; JAX runs the program that the compiler found on every device of a mesh,
each with its share of the batch. Here the devices are eight parts of one processor; on a machine with graphics cards
leave the first two settings out. On several machines start the script on each of them, and call
``jax.distributed.initialize()`` before anything else of JAX: ``jax.devices()`` are those of all of them then.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

import microgrid as mg
from microgrid import data, nn

jax.config.update("jax_enable_x64", True)


def main() -> None:
    """Train on the mesh, then the same network on this processor alone, and compare."""
    digits = data.digits()
    models = [nn.MLP(64, [50, 10], init="he", seed=0) for _ in range(2)]
    for model, mesh in zip(models, (jax.sharding.Mesh(jax.devices(), ("batch",)), None), strict=True):
        print(mg.fit(model, digits.X_train, digits.y_train, epochs=5, mesh=mesh))

    difference = max(abs(a.data - b.data) for a, b in zip(*[model.parameters() for model in models], strict=True))
    accuracy = mg.evaluate(models[0], digits.X_test, digits.y_test).accuracy
    print(f"{len(jax.devices())} devices, {accuracy:.1%} of the test right")
    print(f"largest difference from the parameters that one processor finds: {difference:.0e}")
    assert difference < 1e-9, "the mesh and one processor disagree"


if __name__ == "__main__":
    main()
