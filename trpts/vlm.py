"""Vision-language models as transformers has them, unmodified: load one, make its inputs, and say
what its image tokens stand for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from trpts.transprune.families import known

if TYPE_CHECKING:  # needed by `trpts prune` alone
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

MAX_WORDS = 200  # characters of another library's message: some list everything that they know


def load_vlm(
    name: str, device: str | torch.device = "cpu"
) -> tuple["PreTrainedModel", "ProcessorMixin"]:
    """(model, processor) of a folder, or of the local Hugging Face cache; nothing is downloaded,
    nothing unpickled.

    No program code from the folder is run, and nobody is asked whether it may be. Half precision
    becomes bfloat16 on a CPU.
    raises  ValueError: transformers is not installed, a model that cannot be pruned, missing or
            damaged files, or files that need code of their own
    """
    try:
        from transformers import AutoModelForImageTextToText, AutoProcessor, PretrainedConfig
    except ImportError as error:
        raise ValueError(
            f"transformers is not there ({error}): install it with pip install trpts[vlm]"
        ) from None
    folder = Path(name)
    # unset, transformers would ask, and take a "y"
    local = {"local_files_only": True, "trust_remote_code": False}
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{name} holds no config.json: expected the folder of a vision-language model"
        )
    try:
        config = PretrainedConfig.get_config_dict(name, **local)[0]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        # the latter two where it is no table
        if folder.is_dir():
            raise ValueError(
                f"{folder / 'config.json'} cannot be read: {first_line(error)}"
            ) from None
        raise ValueError(
            f"{name} is neither a folder nor in the local Hugging Face cache: expected the folder "
            f"of a vision-language model, or a name that `hf download {name}` fetched"
        ) from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    try:
        known(kind)
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from None
    mend = (
        "expected all its files there"
        if folder.is_dir()
        else f"fetch the rest with `hf download {name}`"
    )
    try:
        processor = AutoProcessor.from_pretrained(name, **local)
    except Exception as error:
        # transformers raises OSError, ValueError, TypeError and others, by what is missing
        raise _unreadable(name, "processor", error, mend) from None
    if not hasattr(processor, "image_processor"):  # where files lack, a bare tokenizer comes back
        raise ValueError(
            f"{name} holds a {type(processor).__name__}, no processor of images; {mend}"
        )
    kind = str(
        config.get("dtype")
        or config.get("torch_dtype")
        or (config.get("text_config") or {}).get("dtype")
    )
    dtype = torch.bfloat16 if device == "cpu" and "float16" in kind else "auto"
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True, **local
        )
    except Exception as error:
        raise _unreadable(name, "weights", error, mend) from None
    if found["missing_keys"]:
        raise ValueError(
            f"{name}: the weights lack {len(found['missing_keys'])} tensors, "
            f"{min(found['missing_keys'])} among them; {mend}"
        )
    _complete(processor, model.config)
    return model.to(device).eval(), processor


def _complete(processor, config):
    """Give a LLaVA processor what older folders leave out, and the model's configuration knows.

    It counts an image's tokens by patch size and strategy; CLIP's class token is one beside the
    patches, which the strategy "default" takes off again.
    """
    if getattr(processor, "patch_size", 0) is None:
        processor.patch_size = config.vision_config.patch_size
        has_class = config.vision_config.model_type == "clip_vision_model"
        processor.num_additional_image_tokens = int(has_class)
    if getattr(processor, "vision_feature_select_strategy", "") is None:
        processor.vision_feature_select_strategy = config.vision_feature_select_strategy


def prepare(
    model: "PreTrainedModel",
    processor: "ProcessorMixin",
    image: Image.Image,
    question: str,
    **options: Any,
) -> "BatchFeature":
    """The model's inputs for one picture and one question, by the processor's chat template where
    it has one.

    Without one: "USER: <image>\\nquestion ASSISTANT:", as LLaVA-1.5 was trained with. The
    processor gets the `options`.
    raises  ValueError: an empty question, or one that holds the placeholder of the image; a
            template or a processor that fails
    """
    token = processor.image_token
    if not question.strip() or token in question:
        raise ValueError(f"the question is {question!r}: expected some text, and {token} not in it")
    if processor.chat_template:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        try:
            text = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
        except Exception as error:  # the template is a program of the model's authors
            raise ValueError(
                f"the model's chat template cannot be used: {first_line(error)}"
            ) from error
    else:
        text = f"USER: {token}\n{question} ASSISTANT:"
    try:
        inputs = processor(images=image, text=text, return_tensors="pt", **options)
    except Exception as error:  # what a folder says of sizes and tokens may be anything
        raise ValueError(
            f"the model's processor cannot take the picture: {first_line(error)}"
        ) from error
    return inputs.to(model.device, model.dtype)


def _unreadable(name, part, error, mend):
    if "trust_remote_code" in str(error):  # transformers names the option that we do not give
        return ValueError(
            f"{name}: the {part} cannot be read without running program code that comes with the "
            "model, and trpts runs none: expected a model of transformers' own classes"
        )
    mend = "" if isinstance(error, ImportError) else f"; {mend}"  # a package that is not installed
    return ValueError(f"{name}: the {part} cannot be read: {first_line(error)}{mend}")


def first_line(error: Exception) -> str:
    """What another library says is wrong, without what follows."""
    line = str(error).strip().split("\n")[0].split(". If you were")[0].rstrip(".")
    return line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]} …"
