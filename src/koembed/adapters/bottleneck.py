"""The bottleneck that every adapter is made of."""

from __future__ import annotations

from torch import Tensor, nn

ACTIVATIONS = {"gelu": nn.GELU, "identity": nn.Identity}


class Bottleneck(nn.Module):
    """``x -> up(activation(down(x)))``, hidden -> size -> hidden; zero at first, since ``up`` starts at zero.

    Sources: Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP" (sequential); He et al. 2022, "Towards
    a unified view of parameter-efficient transfer learning" (parallel).

    Args:
        parallel: read the sublayer's input rather than its output.
        bias: whether its layers have one; those of a model whose own have none do without, so as to fold into them.
    """

    def __init__(self, hidden: int, size: int, activation: str, parallel: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.parallel = parallel
        self.down = nn.Linear(hidden, size, bias)
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(size, hidden, bias)
        nn.init.normal_(self.down.weight, std=hidden**-0.5)
        nn.init.zeros_(self.up.weight)
        for layer in (self.down, self.up) if bias else ():
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]"""
        return self.up(self.activation(self.down(x)))
