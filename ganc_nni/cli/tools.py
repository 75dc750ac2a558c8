"""Commands that work on single generator files and folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from ganc_nni.cli.app import CONSOLE, AsJson, app, print_json
from ganc_nni.core.errors import InputError
from ganc_nni.core.memory import enough_memory

if TYPE_CHECKING:
    from ganc_nni.tools.profile import Profile
    from ganc_nni.tools.score import Scorer

# torch takes seconds to import; --help and argument errors should not wait for it. Hence these choices, which mypy
# compares with those of the functions that they are passed to.
Format = Literal["ganc", "gan-compression", "pytorch-CycleGAN-and-pix2pix"]
Device = Literal["auto", "cpu", "cuda"]
Resize = Literal["pytorch-fid", "clean"]

GeneratorOption = Annotated[
    Path,
    typer.Option(
        help="Weights, .pth, .safetensors or .ckpt, of this project, pytorch-CycleGAN-and-pix2pix or gan-compression; "
        "depth, widths and kind are found in the file."
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        metavar="W_W_W_...",
        help="Channel widths of one sub-generator, eight joined by underscores (or the six of older results; of a "
        "U-Net nine).",
    ),
]
SizeOption = Annotated[
    tuple[int, int], typer.Option(metavar="H W", help="Height and width of the input for the MACs, pixels.")
]
UpsamplingOption = Annotated[
    Literal["normal", "more", "most"] | None,
    typer.Option(help="Of a SPADE generator, whose file does not tell normal (COCO-Stuff) from more (Cityscapes)."),
]
DeviceOption = Annotated[Device, typer.Option(help="auto: CUDA where there is one.")]
MetricOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="fid, kid: on the published FID weights, downloaded if need be; frechet_imagenet, kid_imagenet: on "
        "torchvision's; frechet_random, kid_random: on a small fixed-seed network that needs no file.",
    ),
]
DimsOption = Annotated[int, typer.Option(help="Features of Inception: 64, 192, 768 or 2048; *_random ignores it.")]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Inception weights to use instead; other than the FID's change the score's name.")
]
ResizeChoice = Annotated[
    Resize,
    typer.Option(
        help="pytorch-fid: bilinear, by the network; clean: clean-fid's antialiased bicubic. *_random resizes only "
        "with clean."
    ),
]
BatchOption = Annotated[int, typer.Option(min=1, help="Images at once.")]


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Generator to read: .pth, .safetensors or .ckpt.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .safetensors or .pth.")],
    to: Annotated[
        Format,
        typer.Option(help="ganc: .safetensors with the architecture, or .pth; the other projects': .pth."),
    ] = "ganc",
    config_str: ConfigOption = None,
    size: SizeOption = (256, 256),
    upsampling: UpsamplingOption = None,
) -> None:
    """Read a generator of any known project and write it for this or another one."""
    from ganc_nni.interop import read_generator, save_generator

    with enough_memory("ganc convert", _room_for(source)):
        file = read_generator(source, config_str, upsampling=upsampling)
        usage = save_generator(file, target, to, size)
    CONSOLE.print(f"{source}: {file.config.describe()}, widths {file.widths}", soft_wrap=True)
    CONSOLE.print(f"{target}: for {usage}", soft_wrap=True)


@app.command()
def profile(
    generator: Annotated[Path | None, typer.Option(help="Weights of any known project.")] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="Search-space JSON: its student of nine separable blocks or eight levels, RGB to RGB."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe: teacher and student at its channels, depth and size, without weights.")
    ] = None,
    config_str: ConfigOption = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="H W", help="Height and width of the input, pixels; left out: 256 256, or the recipe's."),
    ] = None,
    upsampling: UpsamplingOption = None,
    as_json: AsJson = False,
) -> None:
    """Count multiply-accumulates in both conventions, parameters and bytes of weights; give one source.

    Without --config-str a space gives its largest and smallest student, a recipe its teacher too.
    """
    if sum(source is not None for source in (generator, space, recipe)) != 1:
        raise InputError("expected exactly one of --generator FILE, --space JSON and --recipe FILE")
    from ganc_nni.tools.profile import PUBLISHED_SIZE, profile_file, profile_recipe, profile_space

    if generator is not None:
        with enough_memory("ganc profile", _room_for(generator)):
            profiles = {
                generator.name: profile_file(generator, config_str, size or PUBLISHED_SIZE, upsampling=upsampling)
            }
    elif space is not None:
        profiles = profile_space(space, config_str, size or PUBLISHED_SIZE, upsampling=upsampling)
    else:
        assert recipe is not None
        profiles = profile_recipe(recipe, config_str, size)
    if not as_json:
        CONSOLE.print(_profile_table(profiles))
    elif len(profiles) == 1:
        print_json(next(iter(profiles.values())).model_dump(exclude_none=True))
    else:
        print_json({name: each.model_dump(exclude_none=True) for name, each in profiles.items()})


def _profile_table(profiles: dict[str, Profile]) -> Table:
    height, width = next(iter(profiles.values())).image_size
    table = Table(title=f"at {height}x{width}")
    table.add_column()
    for name in profiles:
        table.add_column(name, justify="right", overflow="fold")
    rows = {
        "MACs (published convention)": lambda each: f"{each.macs_published:,}",
        "MACs (true)": lambda each: f"{each.macs_true:,}",
        "parameters": lambda each: f"{each.params:,}",
        "weights (MB)": lambda each: f"{each.weights_bytes / 1e6:.2f}",
        "widths": lambda each: each.config_str,
        "kind": lambda each: each.kind,
        "channels in, out": lambda each: f"{each.in_channels}, {each.out_channels}",
    }
    for title, cell in rows.items():
        table.add_row(title, *map(cell, profiles.values()))
    return table


@app.command()
def translate(
    generator: GeneratorOption,
    source: Annotated[Path, typer.Option("--input", help="Folder of images.")],
    target: Annotated[Path, typer.Option("--output", help="Folder for the PNG files, made if need be.")],
    config_str: ConfigOption = None,
    instances: Annotated[
        Path | None,
        typer.Option(
            help="For a SPADE generator with a boundary channel: folder of instance-id PNG of the same names."
        ),
    ] = None,
    upsampling: UpsamplingOption = None,
    batch_size: BatchOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Translate every image of a folder to a PNG of the same name and size.

    Sizes that are no multiple of 4 are padded by reflection and cropped back. A SPADE generator reads PNG of class
    ids instead. --config-str takes a sub-generator out of a supernet.
    """
    from ganc_nni.interop import read_generator
    from ganc_nni.metrics.evaluator import pick_device
    from ganc_nni.tools.translate import translate_folder

    file = read_generator(generator, config_str, upsampling=upsampling)
    count = translate_folder(file, source, target, batch_size, pick_device(device), instances)
    CONSOLE.print(f"{count} images in {target}", soft_wrap=True)


@app.command()
def score(
    fake: Annotated[Path, typer.Option(help="Folder of generated images, or their statistics as .npz.")],
    real: Annotated[
        Path, typer.Option(help="Folder of real images, or statistics as .npz of this project or pytorch-fid.")
    ],
    real_list: Annotated[
        Path | None, typer.Option(help="Text file (.meta): use only these images of --real, one name a line.")
    ] = None,
    metric: MetricOption = "fid",
    dims: DimsOption = 2048,
    weights: WeightsOption = None,
    resize: ResizeChoice = "pytorch-fid",
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the teacher's images of the same inputs, under the same names: adds SSIM and PSNR to them, "
            "their score, and whether --fake is as good."
        ),
    ] = None,
    untouched: Annotated[
        Path | None,
        typer.Option("--input", help="Folder of the inputs: adds their score, which any generator has to beat."),
    ] = None,
    batch_size: BatchOption = 16,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure how far generated images are from real ones: FID or KID (lower is better).

    Of fewer than 1,000 images the score comes with a bootstrap interval (95 %).
    """
    from ganc_nni.tools.score import require_source

    for source in (fake, real, teacher, untouched):
        if source is not None:
            require_source(source)
    scorer, kernel = _scorer(metric, dims, weights, resize, batch_size, device)
    with enough_memory("ganc score", f"lower {_settings(batch_size)}"):
        result = scorer.score(fake, real, real_list, kernel, teacher, untouched)
    if as_json:
        print_json(result._asdict())
        return
    table = Table(title=f"{result.metric} {result.value:.6g} (lower is better)", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("weights (sha256)", result.weights_sha256)
    table.add_row("features", str(result.dims))
    table.add_row("resize", result.resize)
    table.add_row("generated images", str(result.n_fake or "unknown"))
    table.add_row("real images", str(result.n_real or "unknown"))
    if result.low is not None and result.high is not None:
        table.add_row("95 % interval", f"{result.low:.6g} to {result.high:.6g}")
    if teacher is not None:
        table.add_row("SSIM to the teacher", "not known" if result.ssim is None else f"{result.ssim:.4f}")
        table.add_row("PSNR to the teacher (dB)", "infinite" if result.psnr is None else f"{result.psnr:.2f}")
        table.add_row("score of the teacher", f"{result.teacher:.6g}")
    if untouched is not None:
        table.add_row("score of the untouched input", f"{result.untouched:.6g}")
    CONSOLE.print(table)
    if result.verdict is not None:
        CONSOLE.print(result.verdict, soft_wrap=True)


@app.command()
def stats(
    source: Annotated[Path, typer.Option("--input", help="Folder of images.")],
    target: Annotated[Path, typer.Option("--output", help="File to write, .npz with mu and sigma.")],
    listed: Annotated[
        Path | None, typer.Option("--list", help="Text file (.meta): use only these images, one name a line.")
    ] = None,
    metric: MetricOption = "fid",
    dims: DimsOption = 2048,
    weights: WeightsOption = None,
    resize: ResizeChoice = "pytorch-fid",
    batch_size: BatchOption = 16,
    device: DeviceOption = "auto",
) -> None:
    """Write the statistics of real images, so that scores need not look at them again; pytorch-fid reads them too."""
    from ganc_nni.tools.score import require_source

    require_source(source)
    scorer, _ = _scorer(metric, dims, weights, resize, batch_size, device)
    with enough_memory("ganc stats", f"lower {_settings(batch_size)}"):
        gaussian = scorer.save_statistics(source, target, listed)
    CONSOLE.print(f"{target}: {len(gaussian.mu)} features of {gaussian.count} images", soft_wrap=True)


def _room_for(weights: Path) -> str:
    """What to do where there is too little memory to read weights and write them: no option needs less."""
    size = weights.stat().st_size / 2**20 if weights.is_file() else 0
    return f"end other programs, or take a larger machine: {weights} has {size:,.0f} MiB, three times that are needed"


def _settings(batch_size: int) -> str:
    """What the need for memory depends on, as options of a command that reads images."""
    return (f"--batch-size (now {batch_size}) or " if batch_size > 1 else "") + "the size of the images"


def _scorer(
    metric: str, dims: int, weights: Path | None, resize: Resize, batch_size: int, device: Device
) -> tuple[Scorer, bool]:
    """What measures a distance, and whether that is a kernel distance."""
    from ganc_nni.core.registry import load_plugins
    from ganc_nni.metrics import build_extractor
    from ganc_nni.metrics.evaluator import pick_device
    from ganc_nni.metrics.inception import DIMS
    from ganc_nni.recipe import MetricRecipe
    from ganc_nni.tools.score import Scorer, feature_scores

    load_plugins()
    scores = feature_scores()
    if metric not in scores:
        raise InputError(f"--metric {metric}: is no score of two sets of images; expected one of {', '.join(scores)}")

    if dims not in DIMS:
        raise InputError(f"--dims {dims}: expected one of {', '.join(map(str, DIMS))}")
    # Absolute, because a recipe's paths are relative to GANC_DATA and an option's to the current folder.
    wanted = {"name": scores[metric].features, "dims": dims, "weights": weights and weights.absolute()}
    extractor = build_extractor(MetricRecipe.model_validate(wanted), pick_device(device))
    return Scorer(extractor, resize, batch_size), scores[metric].kernel
