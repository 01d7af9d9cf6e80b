"""The schedules in plain PyTorch, written from their description and not from the project's code.

The network is that of nets.AUXILIARY, each layer a function of its weights and inputs. A backward
pass applies every layer's vector-Jacobian product to the features of the forward pass and the
current weights, so that multi-way's fixed features and changing weights are followed literally.
"""

import torch
import torch.nn.functional as F


def _normalise(w, x):
    return F.batch_norm(x, None, None, training=True, eps=1e-5)


def _scale(w, x):
    return x * w[0].view(1, -1, 1, 1) + w[1].view(1, -1, 1, 1)


def _fully_connected(w, x):
    return F.linear(x.mean((2, 3)), w[0], w[1])


# name: (inputs, function of weights and inputs); a loss's own input is the label too
LAYERS = {
    "conv1": (["data"], lambda w, x: F.conv2d(x, w[0], padding=1)),
    "bn2": (["conv1"], _normalise),
    "scale2": (["bn2"], _scale),
    "relu2": (["scale2"], lambda w, x: F.relu(x)),
    "conv2": (["relu2"], lambda w, x: F.conv2d(x, w[0], padding=1)),
    "block2": (["conv1", "conv2"], lambda w, x, y: x + y),
    "aux2_fc": (["block2"], _fully_connected),
    "conv3": (["block2"], lambda w, x: F.conv2d(x, w[0], w[1])),
    "relu3": (["conv3"], lambda w, x: F.relu(x)),
    "aux3_fc": (["relu3"], _fully_connected),
    "conv4": (["relu3"], lambda w, x: F.conv2d(x, w[0], w[1])),
    "relu4": (["conv4"], lambda w, x: F.relu(x)),
    "fc": (["relu4"], _fully_connected),
}
SCORES = {"aux2_loss": "aux2_fc", "aux3_loss": "aux3_fc", "loss": "fc"}  # shallow to deep
DEPTH = {"aux2_loss": 2, "aux3_loss": 3, "loss": 5}
UNDECAYED = {("aux2_fc", 1): 2.0}  # (layer, index): lr_mult; decay_mult is 0


class Training:
    """Weights, and one iteration after another.

    reach: {loss: the layers that it trains}; weight: {loss: weight in the trunk}; head_weight:
    the same for the layer that makes the scores.
    """

    def __init__(self, weights, rate, momentum, decay, reach, weight, head_weight, nesterov=False):
        self.weights = {name: list(values) for name, values in weights.items()}
        self.rate, self.momentum, self.decay, self.nesterov = rate, momentum, decay, nesterov
        self.reach, self.weight, self.head_weight = reach, weight, head_weight
        self.velocity = {}
        self.iteration = 0

    def forward(self, data, label):
        self.features, self.label = {"data": data}, label
        for name, (inputs, function) in LAYERS.items():
            self.features[name] = function(
                self.weights.get(name, []), *(self.features[i] for i in inputs)
            )
        self.losses = {
            loss: F.cross_entropy(self.features[scores], label).item()
            for loss, scores in SCORES.items()
        }

    def gradients(self, loss):
        """{(layer, index): gradient} of one weighted loss in the layers that it trains."""
        scores = self.features[SCORES[loss]]
        diff = torch.func.grad(lambda s: F.cross_entropy(s, self.label))(scores)
        arriving, found = {SCORES[loss]: diff}, {}
        for name, (inputs, function) in reversed(LAYERS.items()):
            if name not in arriving or name not in self.reach[loss]:
                continue
            values = [self.features[i] for i in inputs]
            _, product = torch.func.vjp(function, self.weights.get(name, []), *values)
            own, *below = product(arriving[name])
            factor = (self.head_weight if name == SCORES[loss] else self.weight)[loss]
            found.update(((name, i), factor * value) for i, value in enumerate(own))
            for source, value in zip(inputs, below, strict=True):
                arriving[source] = arriving.get(source, 0) + value
        return found

    def step(self, gradients, factor=1.0, memory=None):
        """Caffe's SGD: V = momentum V + rate (g + decay w); w -= V, or Nesterov's look ahead."""
        for (name, index), gradient in gradients.items():
            weight = self.weights[name][index]
            multiplier = UNDECAYED.get((name, index))
            decayed = gradient if multiplier else gradient + self.decay * weight
            rate = self.rate(self.iteration) * factor * (multiplier or 1.0)
            key = (memory, name, index)
            before = self.velocity.get(key, torch.zeros_like(weight))
            after = self.momentum * before + rate * decayed
            self.velocity[key] = after
            moved = (1 + self.momentum) * after - self.momentum * before
            self.weights[name][index] = weight - (moved if self.nesterov else after)

    # ---- the schedules -------------------------------------------------------------------------

    def one_step(self, data, label, normalize=False):
        """JOINT and RELAY: the gradients of all losses in one step.

        normalize: divided by the sum of the weights of the losses that meet in the layer.
        """
        self.forward(data, label)
        summed, weight = {}, {}
        for loss in self.reach:
            for key, gradient in self.gradients(loss).items():
                summed[key] = summed.get(key, 0) + gradient
                own = self.head_weight if key[0] == SCORES[loss] else self.weight
                weight[key] = weight.get(key, 0) + own[loss]
        if normalize:
            summed = {key: gradient / weight[key] for key, gradient in summed.items()}
        self.step(summed)
        self.iteration += 1

    def pair_wise(self, data, label, **options):
        """For each loss its own forward pass, backward pass and step."""
        for loss in self.reach:
            self.forward(data, label)
            self._own_step(loss, **options)
        self.iteration += 1

    def multi_way(self, data, label, **options):
        """One forward pass; then for each loss a backward pass and a step."""
        self.forward(data, label)
        for loss in self.reach:
            self._own_step(loss, **options)
        self.iteration += 1

    def _own_step(self, loss, normalize=False, guard=None, own_momentum=True):
        factor, order = 1.0, list(self.reach)
        if normalize:
            factor /= sum(self.weight[other] for other in order[order.index(loss) :])
        if guard and self.losses[loss] > guard * self.losses["loss"]:
            factor *= self.losses["loss"] / self.losses[loss]
        self.step(self.gradients(loss), factor, loss if own_momentum else None)
