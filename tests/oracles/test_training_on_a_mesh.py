"""Training on a mesh of devices, and of processes, gives the parameters of one."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_on_a_mesh.py"

HEAD = """
import json, os, sys
import numpy as np
import jax
jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 2:
    jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
import microgrid as mg
from microgrid import data, losses, nn, optim

MESH = jax.sharding.Mesh(jax.devices(), ("batch",))

def difference(model, *given, optimizer=optim.Adam, **options):
    trained = []
    for mesh in (MESH, None):
        net = model()
        history = mg.fit(net, *given, optimizer=optimizer(net.parameters(), 0.02), quiet=True, mesh=mesh, **options)
        trained.append([*[p.data for p in net.parameters()], *history.batch_loss, *history.accuracy])
        trained[-1] += [*history.validation_loss, *[p.grad for p in net.parameters()]]
    return float(np.max(np.abs(np.subtract(*trained))))
"""


def run(code, devices, *arguments):
    """Start Python on so many virtual devices."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code, *arguments],
        env={**os.environ, **flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(*processes):
    """What processes that run together print last."""
    try:
        found = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for process, (out, error) in zip(processes, found, strict=True):
        assert process.returncode == 0, out + error
    return [json.loads(out.splitlines()[-1]) for out, _ in found]


def test_the_example_gives_the_network_of_one_device():
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"8 devices, ([\d.]+)% of the test right", done.stdout)
    (difference,) = re.findall(r"that one processor finds: (\S+)", done.stdout)
    assert float(accuracy) > 80.0
    assert float(difference) < 1e-12


FITS = """
X, y = data.moons(70, seed=0)  # the last minibatch of 6 is no share for each of eight devices
net = lambda: nn.MLP(2, [8, 2], init="he", seed=0)
found = {"validation": difference(net, X, y, epochs=3, batch_size=16, validation=(X[:9], y[:9]))}
found["one minibatch of one"] = difference(net, X[:1], y[:1], epochs=2)
dropped = lambda: nn.Sequential(nn.Layer(2, 8, "relu", seed=0), nn.Dropout(0.5, seed=1), nn.Layer(8, 2, None, seed=2))
found["dropout"] = difference(dropped, X, y, epochs=2, optimizer=optim.Momentum)
words = [X[: 2 + k % 2].tolist() for k in range(20)]

class Summed(nn.Module):
    def __init__(self):
        self.layer = nn.Layer(2, 2, None, seed=3)

    def __call__(self, rows):
        outputs = [self.layer(row) for row in rows]
        return [mg.total(column) for column in zip(*outputs)]

    def parameters(self):
        return self.layer.parameters()

found["lengths"] = difference(Summed, words, y[:20], epochs=2, batch_size=8)

found["some moved"] = difference(net, X, y, epochs=2, optimizer=lambda all, rate: optim.RMSprop(all[:10], rate))

def scaled():
    shift, network = mg.Value(0.5), net()
    model = lambda x: [out * shift for out in network(x)]
    model.parameters = network.parameters
    model.change = lambda _: setattr(shift, "data", shift.data * 0.5)
    return model

ends = []
for mesh in (MESH, None):
    model = scaled()
    mg.fit(model, X, y, epochs=3, after_epoch=model.change, quiet=True, mesh=mesh)
    ends.append([p.data for p in model.parameters()])
found["a leaf that nothing moves, changed"] = float(np.max(np.abs(np.subtract(*ends))))

class Sign(optim.Optimizer):
    def formula(self, parameter, gradient):
        return (parameter - self.learning_rate * (1.0 if gradient > 0 else -1.0),)

found["a formula of floats"] = difference(net, X, y, epochs=2, optimizer=Sign)
print(json.dumps(found))
"""


def test_a_fit_on_eight_devices_is_that_on_one():
    (found,) = results(run(FITS, 8))
    assert len(found) == 7
    assert {name: far for name, far in found.items() if not far < 1e-12} == {}


def test_a_fit_on_two_processes_is_that_on_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for found in results(*[run(FITS, 2, port, str(k)) for k in range(2)]):
        assert {name: far for name, far in found.items() if not far < 1e-12} == {}


def test_what_after_epoch_changes_and_ctrl_c_leaves_holds_on_a_mesh():
    (found,) = results(
        run(
            """
X, y = data.moons(64, seed=0)
ends = []
for mesh in (MESH, None):
    net = nn.MLP(2, [4, 2], seed=0)
    optimizer = optim.Adam(net.parameters(), 0.1)

    def after(history):
        optimizer.learning_rate *= 0.5
        net.parameters()[0].data = 0.25
        if len(history.loss) == 3:
            raise KeyboardInterrupt

    history = mg.fit(net, X, y, optimizer=optimizer, epochs=9, after_epoch=after, quiet=True, mesh=mesh)
    ends.append([*[p.data for p in net.parameters()], *np.ravel([*optimizer.state_dict()["memory"].values()])])
    assert history.interrupted and len(history.loss) == 3
    json.dumps(optimizer.state_dict())
    net(X[0].tolist())[0].backward()
    optimizer.step()
print(json.dumps(float(np.max(np.abs(np.subtract(*ends))))))
""",
            8,
        )
    )
    assert found < 1e-12


def test_nan_ends_a_training_on_a_mesh_as_it_ends_one_on_one_device():
    (said,) = results(
        run(
            """
X, y = data.moons(64, seed=0)
said = []
for mesh in (MESH, None):
    net = nn.MLP(2, [4, 2], seed=0)
    try:
        mg.fit(net, X, y, loss=lambda o, t: mg.log(o[0] - o[0]) * t, epochs=2, quiet=True, mesh=mesh)
    except mg.TrainingError as error:
        said.append(str(error))
    said.append(all(p.data == q.data for p, q in zip(net.parameters(), nn.MLP(2, [4, 2], seed=0).parameters())))
print(json.dumps(said))
""",
            8,
        )
    )
    assert said[:2] == said[2:]
    assert said[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("mesh=8", "mesh must be a mesh of JAX's devices, such as jax.sharding.Mesh.*got 8"),
        ("mesh=MESH, compile=False", "compile=False trains on Values, and a mesh runs what is compiled"),
        ("mesh=MESH, model=lambda x: net(x) if x[0] > 0 else net(x)[::-1]", "this cannot be compiled"),
    ],
)
def test_what_a_mesh_cannot_do_is_said(options, said):
    (found,) = results(
        run(
            f"""
net = nn.MLP(2, [4, 2], seed=0)
def fit(model=net, **options):
    if model is not net:
        model.parameters = net.parameters
    mg.fit(model, *data.moons(8), quiet=True, **options)
try:
    fit({options})
except (TypeError, ValueError) as error:
    print(json.dumps(str(error)))
""",
            2,
        )
    )
    assert re.search(said, found), found
