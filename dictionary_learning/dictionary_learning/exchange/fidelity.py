"""What a dictionary keeps when it changes its format, in three grades.

- Equal: the same weights in the same formula. Codes agree up to the last bit of the matrix product; nothing
  has to be said.
- Rounded: the same function, written with other weights (a bias or a norm is folded into them). Codes agree
  as far as float32 does, and a latent at its very threshold may fall on the other side.
- Lost: the function, or something that belongs to the dictionary, is another one afterwards. That is refused
  unless the caller allows it.
"""

from dictionary_learning.errors import UserError


class Fidelity:
    """Collects what one conversion says.

    Args:
        allow_loss: what would be lost is told instead of refused.
    """

    def __init__(self, allow_loss: bool = False) -> None:
        self.allow_loss = allow_loss
        self.remarks: list[str] = []
        self.losses: list[str] = []

    def remark(self, text: str) -> None:
        """Note something that leaves codes and reconstructions as they are, or rounds them."""
        self.remarks.append(text)

    def lose(self, text: str) -> None:
        """Note something that is lost.

        Raises:
            UserError: losses are not allowed.
        """
        if not self.allow_loss:
            raise UserError(f"{text}: give --allow_loss (allow_loss=True) to go on without it.")
        self.losses.append(text)
