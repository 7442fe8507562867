import json
import shutil

import pytest
import torch

from evaluator.sampling.model import ModelError, generate, load_policy
from tests.tiny_model import make_tiny_model

ASK = [[{"role": "user", "content": "say"}]]


@pytest.fixture(scope="module")
def adapter(tiny_folder, tmp_path_factory):
    """A LoRA adapter on the tiny model that visibly changes its output."""
    import peft

    policy = load_policy(str(tiny_folder), device="cpu")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(policy.model, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=2.0)
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    model.save_pretrained(folder)
    return folder


def edited(adapter, tmp_path, **changes):
    folder = shutil.copytree(adapter, tmp_path / "edited")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_an_adapter_changes_what_is_sampled(tiny_folder, tiny_policy, adapter):
    policy = load_policy(str(tiny_folder), adapter=adapter, device="cpu")
    assert policy.adapter == str(adapter)
    plain = generate(tiny_policy, ASK, max_new_tokens=8)
    assert generate(policy, ASK, max_new_tokens=8) != plain


def test_the_adapter_names_its_base_model(tiny_folder, adapter):
    policy = load_policy(None, adapter=adapter, device="cpu")
    assert policy.name == str(tiny_folder)


def test_an_adapter_of_another_name_is_refused(tiny_folder, adapter, tmp_path):
    other = edited(adapter, tmp_path, base_model_name_or_path="Qwen/Qwen2.5-7B")
    with pytest.raises(ModelError, match="got an adapter of 'Qwen/Qwen2.5-7B' for") as caught:
        load_policy(str(tiny_folder), adapter=other, device="cpu")
    assert "\n" not in str(caught.value)
    policy = load_policy(str(tiny_folder), adapter=other, device="cpu", allow_other_base=True)
    assert policy.name == str(tiny_folder)


@pytest.mark.parametrize(
    ("options", "found"), [({"width": 48}, "in_features 64"), ({"n_layers": 1}, "has not")]
)
def test_an_adapter_of_other_shapes_is_refused(adapter, tmp_path, options, found):
    other = make_tiny_model(tmp_path / "other", **options)
    with pytest.raises(ModelError, match=f"adapter must fit the model .*{found}"):
        load_policy(str(other), adapter=adapter, device="cpu", allow_other_base=True)


def test_an_adapter_with_another_vocabulary_is_refused(tiny_folder, adapter, tmp_path):
    from tests.tiny_model import make_tiny_tokenizer

    folder = shutil.copytree(adapter, tmp_path / "vocabulary")
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="must have the vocabulary .* 518 tokens against 517"):
        load_policy(str(tiny_folder), adapter=folder, device="cpu")


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_incomplete_adapter_is_one_line(tiny_folder, adapter, tmp_path, missing):
    folder = shutil.copytree(adapter, tmp_path / "incomplete")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"must hold a .*{missing}") as caught:
        load_policy(str(tiny_folder), adapter=folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_names_no_base_is_one_line(adapter, tmp_path):
    folder = edited(adapter, tmp_path, base_model_name_or_path=None)
    with pytest.raises(ModelError, match="must name its base model"):
        load_policy(None, adapter=folder, device="cpu")


@pytest.mark.parametrize("content", ["[]", "null", '"lora"', "{"])
def test_a_configuration_that_is_no_object_is_one_line(adapter, tmp_path, content):
    folder = shutil.copytree(adapter, tmp_path / "damaged")
    (folder / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match="must hold a readable adapter_config.json"):
        load_policy(None, adapter=folder, device="cpu")
