"""What is asked of Unsloth, and what is refused of its answer; its own behaviour is tested in tests/unsloth."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from evaluator.models.lora import ModelError
from evaluator.models.unsloth_loader import CPU_SWITCH, load_with_unsloth
from evaluator.sampling.model import load_base


@pytest.fixture
def fake(monkeypatch, tiny_folder):
    """A stand-in for the package; `asked` are the options of its loader, `answer` changes what it loads."""
    state = SimpleNamespace(asked={}, answer=lambda model: model)

    def from_pretrained(**options):
        print("a banner")
        state.asked.update(options)
        model = torch.nn.Module()
        model.embed_tokens = torch.nn.Embedding(2, 2)
        model.config = SimpleNamespace(_name_or_path=options["model_name"])
        model.is_loaded_in_4bit = options["load_in_4bit"]
        return state.answer(model), None

    module = ModuleType("unsloth")
    module.FastLanguageModel = SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setitem(sys.modules, "unsloth", module)
    monkeypatch.setattr("evaluator.sampling.model.importlib.util.find_spec", lambda name: True)
    monkeypatch.setenv(CPU_SWITCH, "1")
    return state


def load(folder, **options):
    options = {"dtype": torch.bfloat16, "load_in_4bit": True, "max_tokens": None, **options}
    return load_with_unsloth(str(folder), **options)


def test_exactly_the_named_model_is_asked_for_in_the_named_format(fake, tiny_folder):
    load(tiny_folder)
    assert fake.asked["model_name"] == str(tiny_folder)
    assert fake.asked["use_exact_model_name"] is True
    assert fake.asked["dtype"] is torch.bfloat16 and fake.asked["load_in_4bit"] is True


@pytest.mark.parametrize(("asked", "passed"), [(None, 2048), (100, 100), (10_000, 2048)])
def test_the_length_is_never_beyond_the_models_own(fake, tiny_folder, asked, passed):
    load(tiny_folder, max_tokens=asked)
    assert fake.asked["max_seq_length"] == passed


def test_another_model_than_the_named_one_is_refused_in_one_line(fake, tiny_folder):
    def other(model):
        model.config._name_or_path = "unsloth/other-bnb-4bit"
        return model

    fake.answer = other
    with pytest.raises(
        ModelError, match="must be the one named, got 'unsloth/other-bnb-4bit'"
    ) as caught:
        load(tiny_folder)
    assert "\n" not in str(caught.value)


def test_16_bit_weights_where_4_were_asked_are_refused(fake, tiny_folder):
    def silently(model):
        model.is_loaded_in_4bit = False
        return model

    fake.answer = silently
    with pytest.raises(ModelError, match="must be in 4 bits as asked"):
        load(tiny_folder)
    load(tiny_folder, load_in_4bit=False)


def test_backbones_keep_the_padding_mask_and_the_banner_stays_off_stdout(fake, tiny_folder, capsys):
    model, tokenizer = load_base(str(tiny_folder), device="cpu", unsloth=True)
    assert model._unsloth_keep_padding_mask is True
    assert fake.asked["dtype"] is torch.float32  # as `auto` is on a CPU
    assert tokenizer.convert_tokens_to_ids("<|pad|>") == tokenizer.pad_token_id  # not Unsloth's
    assert capsys.readouterr().out == ""


def test_on_cuda_a_machine_without_a_compiler_is_told_before_anything_is_loaded(
    fake, tiny_folder, monkeypatch
):
    """Triton would end the run in its first step."""
    monkeypatch.setattr(
        "evaluator.sampling.model.compiler_problem", lambda: "a C compiler must be there"
    )
    with pytest.raises(ModelError, match="a C compiler must be there"):
        load_base(str(tiny_folder), device="cuda", unsloth=True)
    assert fake.asked == {}


def test_a_tokenizer_that_pads_with_its_end_token_is_told_what_to_change(fake, tiny_folder):
    def refuse(model):
        raise RuntimeError("Unsloth: Could not find a valid pad token for x - please inspect it.")

    fake.answer = refuse
    with pytest.raises(ModelError, match="set pad_token in its tokenizer_config.json") as caught:
        load_base(str(tiny_folder), device="cpu", unsloth=True)
    assert "\n" not in str(caught.value)


def test_another_error_of_unsloths_is_not_taken_for_that(fake, tiny_folder):
    def refuse(model):
        raise RuntimeError("something else")

    fake.answer = refuse
    with pytest.raises(ModelError, match="something else"):
        load_base(str(tiny_folder), device="cpu", unsloth=True)
