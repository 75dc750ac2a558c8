"""The U-Net generator of pytorch-CycleGAN-and-pix2pix, written down as formulas of its state dict."""

import torch
import torch.nn.functional as F


def channels(width, n_downs):
    """Of what each level's first convolution makes."""
    return [width * min(2**level, 8) for level in range(n_downs)]


def layer(level, index):
    """The name of a layer: levels are nested, each in the middle of the one around it."""
    return ".".join(["model", "model", *("1", "model") * (level > 0), *("3", "model") * (level - 1), str(index)])


def public_state(width=4, n_downs=5, norm="instance", in_channels=3, out_channels=3, seed=0):
    """Random tensors under the public names."""
    random = torch.Generator().manual_seed(seed)
    state = {}

    def draw(name, *shape, offset=0.0):
        state[name] = offset + 0.1 * torch.randn(shape, generator=random)

    def normed(name, count):
        if norm == "batch":
            draw(f"{name}.weight", count, offset=1)
            draw(f"{name}.bias", count)
            draw(f"{name}.running_mean", count)
            state[f"{name}.running_var"] = 0.5 + torch.rand(count, generator=random)
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def build(level, outer):
        made, innermost = channels(width, n_downs)[level], level == n_downs - 1
        down = layer(level, 0 if level == 0 else 1)
        up = layer(level, 3 if level == 0 or innermost else 5)
        read = in_channels if level == 0 else channels(width, n_downs)[level - 1]
        draw(f"{down}.weight", made, read, 4, 4)
        if norm == "instance":
            draw(f"{down}.bias", made)
        if 0 < level < n_downs - 1:
            normed(layer(level, 2), made)
        if not innermost:
            build(level + 1, made)
        draw(f"{up}.weight", made if innermost else 2 * made, outer, 4, 4)
        if norm == "instance" or level == 0:
            draw(f"{up}.bias", outer)
        if level > 0:
            normed(layer(level, 4 if innermost else 6), outer)

    build(0, out_channels)
    return state


def public_output(state, x):
    """What the public network computes with these tensors in evaluation mode."""
    n_downs = max(name.count("model") for name in state) - 1

    def norm(x, name):
        if f"{name}.running_mean" not in state:
            return F.instance_norm(x)
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    def block(x, level):
        outermost, innermost = level == 0, level == n_downs - 1
        down = layer(level, 0 if outermost else 1)
        up = layer(level, 3 if outermost or innermost else 5)
        y = x if outermost else F.leaky_relu(x, 0.2)
        y = F.conv2d(y, state[f"{down}.weight"], state.get(f"{down}.bias"), stride=2, padding=1)
        if not outermost and not innermost:
            y = norm(y, layer(level, 2))
        if not innermost:
            y = block(y, level + 1)
        y = F.conv_transpose2d(F.relu(y), state[f"{up}.weight"], state.get(f"{up}.bias"), stride=2, padding=1)
        return y.tanh() if outermost else torch.cat([x, norm(y, layer(level, 4 if innermost else 6))], 1)

    return block(x, 0)
