"""Train a network of scalars on a mesh of devices, through JAX: pip install "microgrid-autograd[jax,data]".

    python examples/train_on_a_mesh.py

The network is written in scalars and compiled; ``kernel.to_jax()`` is the program that the compiler found, as a pure
function of the parameters and a batch. JAX runs it on every device of a mesh, each with its share of the batch, and
adds the gradients up. The optimiser is the one that moves Values, on JAX arrays. Here the devices are eight parts of
one processor; on a machine with graphics cards leave the first two settings out.

On several machines, start the script on each of them, call ``jax.distributed.initialize()`` first, and make the
sharded arrays with ``jax.make_array_from_process_local_data`` out of the images that the machine has.
"""

import os

DEVICES = 8
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402 - it reads the settings when it is imported
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import microgrid as mg  # noqa: E402
from microgrid import data, losses, nn, optim  # noqa: E402

jax.config.update("jax_enable_x64", True)

EPOCHS, BATCH = 5, 56  # each device gets 7 images of a batch


def main() -> None:
    """Train on the mesh, then the same network with ``mg.fit`` on this processor alone, and compare."""
    digits = data.digits()
    X, y = digits.X_train[:1400], digits.y_train[:1400]  # full batches only, as each is divided by eight

    model = nn.MLP(64, [50, 10], init="he", seed=0)
    kernel = mg.compile(lambda image, digit: losses.cross_entropy(model(image), digit)).kernel(X[:1], y[:1])
    # An optimiser moves parameters in the order in which it was given them: here that of the kernel.
    optimizer = optim.Adam(kernel.parameters, 0.01)

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    spread, everywhere = NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())
    step = jax.jit(jax.value_and_grad(kernel.to_jax()), out_shardings=everywhere)

    theta = jax.device_put(kernel.read(), everywhere)
    order = np.random.default_rng(0)
    for epoch in range(1, EPOCHS + 1):
        for batch in data.minibatches(X, y, BATCH, order):
            loss, gradient = step(theta, *[jax.device_put(part, spread) for part in batch])
            theta = optimizer.update(theta, gradient)
        print(f"epoch {epoch}/{EPOCHS}  loss of the last minibatch {loss:.4f}")
    kernel.write(theta)

    alone = nn.MLP(64, [50, 10], init="he", seed=0)
    mg.fit(alone, X, y, optimizer=optim.Adam(alone.parameters(), 0.01), epochs=EPOCHS, batch_size=BATCH, quiet=True)
    difference = max(abs(a.data - b.data) for a, b in zip(model.parameters(), alone.parameters(), strict=True))
    accuracy = mg.evaluate(model, digits.X_test, digits.y_test).accuracy
    print(f"{len(jax.devices())} devices, {accuracy:.1%} of the test right")
    print(f"largest difference from the parameters that mg.fit finds alone: {difference:.0e}")
    assert difference < 1e-9, "the mesh and one processor disagree"


if __name__ == "__main__":
    main()
