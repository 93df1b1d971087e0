"""A GPT out of scalars: it reads the names of Python's modules letter by letter and makes up new ones.

    pip install "microgrid-autograd[native]"
    python examples/gpt.py

Every number in it is a ``Value``: the embeddings, the attention of each position to those before it, the loss. The
same functions run eagerly, where one head of attention is drawn, and compiled, where names of one length are one
program of arrays. The architecture is that of Radford et al., *Language Models are Unsupervised Multitask Learners*
(2019), with the normalisation of Zhang and Sennrich (2019).
"""

import random
from typing import Any

import numpy as np

import microgrid as mg
from microgrid import data, losses, nn, optim

WIDTH, HEADS, CONTEXT = 16, 4, 16
SIZE = WIDTH // HEADS  # of a head's queries, keys and values
STEPS, RATE = 1000, 0.01


def normalized(x: list[Any]) -> list[Any]:
    """Divide by the root of the mean square."""
    scale = (mg.dot(x, x) / len(x) + 1e-5) ** -0.5
    return [a * scale for a in x]


def attention(query: list[Any], keys: list[list[Any]], values: list[list[Any]]) -> list[Any]:
    """One head: the values of all positions so far, weighted by how well their keys fit the query."""
    weights = mg.softmax([mg.dot(query, key) / SIZE**0.5 for key in keys])
    return [mg.dot(weights, [value[j] for value in values]) for j in range(SIZE)]


class GPT(nn.Module):
    """One block of a transformer, between the embedding of a letter and the scores of the next one."""

    def __init__(self, letters: int, seed: int = 0) -> None:
        draw = random.Random(seed)
        self.letter = nn.Embedding(letters, WIDTH, seed=draw)
        self.position = nn.Embedding(CONTEXT, WIDTH, seed=draw)
        self.query, self.key, self.value, self.mixed = (
            nn.Affine(WIDTH, WIDTH, init="xavier", seed=draw) for _ in range(4)
        )
        self.network = nn.MLP(WIDTH, [4 * WIDTH, WIDTH], init="he", seed=draw)
        self.scores = nn.Affine(WIDTH, letters, init=0.01, seed=draw)

    def forward(self, tokens: Any) -> list[list[Any]]:
        """Return for each position the scores of every letter that may follow."""
        keys: list[list[Any]] = []
        values: list[list[Any]] = []
        scores = []
        for place, token in enumerate(tokens):
            x = [a + b for a, b in zip(self.letter(token), self.position(place), strict=True)]
            y = normalized(x)
            query = self.query(y)
            keys.append(self.key(y))
            values.append(self.value(y))
            heads = []
            for h in range(0, WIDTH, SIZE):
                part = slice(h, h + SIZE)
                heads += attention(query[part], [key[part] for key in keys], [value[part] for value in values])
            x = [a + b for a, b in zip(x, self.mixed(heads), strict=True)]
            x = [a + b for a, b in zip(x, self.network(normalized(x)), strict=True)]
            scores.append(self.scores(normalized(x)))
        return scores

    def surprise(self, tokens: Any, following: Any) -> Any:
        """The mean surprise at the letter that follows, in nats."""
        return mg.mean([losses.cross_entropy(s, t) for s, t in zip(self(tokens), following, strict=True)])


def documents() -> tuple[list[Any], str]:
    """Return the names as tokens, between two that mean their beginning and end, and the letters."""
    names = [name for name in data.module_names() if len(name) < CONTEXT]
    letters = "".join(sorted(set("".join(names))))
    return [np.array([len(letters), *map(letters.index, name), len(letters)]) for name in names], letters


def sampled(model: GPT, letters: str, draw: random.Random) -> str:
    """Return a name, letter after letter, each drawn with the probability that the model gives it."""
    end = len(letters)
    tokens = [end]
    with mg.no_grad():
        while len(tokens) < CONTEXT:
            probabilities = [p.data for p in mg.softmax(model(tokens)[-1])]
            tokens.append(draw.choices(range(end + 1), probabilities)[0])
            if tokens[-1] == end:
                break
    return "".join(letters[token] for token in tokens if token != end)


def main() -> None:
    """Train on names, make up ten, draw a head."""
    names, letters = documents()
    model = GPT(len(letters) + 1)
    adam = optim.Adam(model.parameters(), RATE)
    learn = mg.training_step(mg.compile(model.surprise, batch=False), adam)
    draw = random.Random(1)
    recent = 0.0
    with learn:
        for step in range(1, STEPS + 1):
            adam.learning_rate = RATE * (1 - step / (STEPS + 1))
            name = draw.choice(names)
            recent += (learn(name[:-1], name[1:]) - recent) / min(step, 100)
            if step % 100 == 0:
                print(f"step {step:4d}  surprise {recent:.3f} nats a letter, of {np.log(len(letters) + 1):.3f}")
    print("made up:", ", ".join(sampled(model, letters, draw) for _ in range(10)))

    tokens = names[0][:3]
    x = [
        normalized([a + b for a, b in zip(model.letter(t), model.position(k), strict=True)])
        for k, t in enumerate(tokens)
    ]
    head = attention(model.query(x[-1])[:SIZE], [model.key(y)[:SIZE] for y in x], [model.value(y)[:SIZE] for y in x])
    head[0].backward()
    print("its first head:", mg.draw(head[0], depth=1).save("head.svg"))


if __name__ == "__main__":
    main()
