"""What chapter 01 shows: where the Fisher information of a model lies."""

from trpts_lab.book.draw import heat_map
from trpts_lab.book.figures import show

LAYER_KINDS = {
    "attn.qkv": "qkv",
    "attn.proj": "attention output",
    "mlp.fc1": "MLP in",
    "mlp.fc2": "MLP out",
}


def density_of_layers(density):
    """Information per weight, a row per kind of layer, a column per block: [kinds, blocks]."""
    names, n_blocks = list(LAYER_KINDS.values()), density.shape[1]

    def draw(figure):
        label = "Fisher information\nper weight (1 = average)"
        axes = heat_map(figure, density, names, range(n_blocks), "{:.1f}", label)
        axes.set_xlabel("block")

    row, column = divmod(density.argmax().item(), n_blocks)
    means = zip(names, density.mean(1).tolist(), strict=True)
    words = ", ".join(f"{name} {mean:.1f}" for name, mean in means)
    show(
        draw,
        alt=f"Heat map of {len(names)} layer kinds by {n_blocks} blocks. Highest is the "
        f"{names[row]} layer of block {column} with {density.max():.1f} times the average. Means "
        f"over blocks: {words}.",
    )


def shares_of_blocks(shares, here=None):
    """The part of the information that each block holds, a dot for each seed.

    shares  a row for each seed, a column for each block
    here    those of the page's own run
    """
    n_blocks, means = shares.shape[1], shares.mean()

    def draw(figure):
        axes, x = figure.subplots(), range(n_blocks)
        axes.bar(x, means, color="C4", label="mean over seeds")
        for nth, row in enumerate(shares.to_numpy()):
            axes.plot(x, row, "o", color="C0", ms=5, label=None if nth else "one seed")
        if here is not None:
            axes.plot(x, here, "D", color="C5", ms=6, label="this page's run")
        axes.axhline(1 / n_blocks, ls="--", color="gray", label="equal shares")
        axes.set(xlabel="block", ylabel="part of the Fisher information", xticks=x)
        axes.set_ylim(0, 1.4 * max(shares.max().max(), 0 if here is None else here.max()))
        axes.legend(ncols=2, fontsize=9, loc="upper center")

    show(
        draw,
        alt=f"Bars for {n_blocks} blocks, a dot per seed. Block {means.argmax()} holds most, "
        f"{means.max():.0%} on average, block {means.argmin()} least, {means.min():.0%}; single "
        f"seeds lie between {shares.min().min():.0%} and {shares.max().max():.0%}.",
    )


def information_in_the_top(tops):
    """How much of the information the strongest weights hold, a curve for each seed.

    tops  per cent: a row for each seed, a column for each share of the weights, in per cent too
    """

    def draw(figure):
        axes, x = figure.subplots(), list(tops)
        for nth, y in enumerate(tops.to_numpy()):
            label = None if nth else "one seed"
            axes.plot(x, y, "-o", color="C0", ms=3, lw=1, label=label)
        axes.plot(x, x, "--", color="gray", label="if all weights mattered alike")
        axes.set(xscale="log", xlabel="top weights (% of all)", ylim=(0, 100))
        axes.set_ylabel("part of the Fisher\ninformation (%)")
        axes.set_xticks(x, [f"{share:g}" for share in x])
        axes.minorticks_off()
        axes.legend(loc="upper left", fontsize=9)

    held = ", ".join(f"{share:g} % hold {mean:.0f} %" for share, mean in tops.mean().items())
    show(
        draw,
        alt="One rising curve per seed, all close together and far above the line of equal "
        f"weights. Of the weights, the top {held} of the Fisher information.",
    )
