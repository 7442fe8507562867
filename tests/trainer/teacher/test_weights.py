import pytest
import torch
from torch import nn

from trainer.teacher.weights import EmaTeacher, TrustRegionTeacher, make_teacher


def student(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).to(dtype)
    model[0].requires_grad_(False)
    return model


def step(model: nn.Module, size: float = 1.0) -> None:
    with torch.no_grad():
        for parameter in model[1].parameters():
            parameter.add_(size)


def test_the_teacher_starts_as_a_copy_of_the_trainable_weights():
    model = student()
    state = EmaTeacher(model, rate=0.05).state()
    assert set(state) == {"1.weight", "1.bias"}
    assert torch.equal(state["1.weight"], model[1].weight)
    step(model)
    assert not torch.equal(state["1.weight"], model[1].weight), "a copy, not a view"


def test_updates_follow_the_formula():
    model = student()
    teacher = EmaTeacher(model, rate=0.25)
    expected = model[1].weight.detach().double().clone()
    for _ in range(3):
        step(model)
        teacher.update()
        expected = 0.75 * expected + 0.25 * model[1].weight.detach().double()
    # three float32 updates of numbers of size 1
    assert torch.allclose(teacher.state()["1.weight"].double(), expected, atol=1e-6)


def test_a_bfloat16_student_still_moves_its_teacher_at_a_small_rate():
    model = student(torch.bfloat16)
    teacher = EmaTeacher(model, rate=0.01)
    before = teacher.state()["1.weight"].clone()
    step(model, 0.125)
    for _ in range(5):
        teacher.update()
    assert teacher.state()["1.weight"].dtype == torch.float32
    assert not torch.equal(teacher.state()["1.weight"], before)


def test_the_teachers_weights_are_in_place_within_the_block_and_nothing_else_changes():
    model = student()
    teacher = EmaTeacher(model, rate=0.0)
    original = model[1].weight.detach().clone()
    x = torch.ones(1, 4)
    initial = model(x).detach()
    step(model)
    (loss := model(x).sum()).backward(retain_graph=True)
    gradient = model[1].weight.grad.clone()
    model.zero_grad()
    with torch.no_grad(), teacher.weights():
        assert torch.equal(model(x), initial)
    assert torch.equal(model[1].weight, original + 1)
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    loss.backward()
    assert torch.equal(model[1].weight.grad, gradient), "a graph from before the block still holds"


def test_the_students_weights_come_back_after_an_exception():
    model = student()
    teacher = EmaTeacher(model, rate=0.0)
    step(model)
    weight = model[1].weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), teacher.weights():
        raise KeyboardInterrupt
    assert torch.equal(model[1].weight, weight)


def test_saving_and_loading_gives_the_same_bits(tmp_path):
    model = student()
    teacher = EmaTeacher(model, rate=0.3)
    step(model)
    teacher.update()
    teacher.save(tmp_path)
    other = EmaTeacher(student(), rate=0.3)
    other.load(tmp_path)
    assert all(torch.equal(other.state()[n], t) for n, t in teacher.state().items())


def narrow():
    """Parameters of the student's names that could be stretched to its shapes."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    return model


@pytest.mark.parametrize("other", [nn.Linear(3, 3), narrow()], ids=["names", "shapes"])
def test_a_teacher_of_another_model_is_refused(tmp_path, other):
    EmaTeacher(other, rate=0.1).save(tmp_path)
    with pytest.raises(ValueError, match="must have the student's parameters"):
        EmaTeacher(student(), rate=0.1).load(tmp_path)
    with pytest.raises(ValueError, match=r"must hold teacher\.safetensors"):
        EmaTeacher(student(), rate=0.1).load(tmp_path / "nowhere")


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match="ema_rate must lie in 0..1"):
        EmaTeacher(student(), rate=rate)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_trust_region_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match="trust_region_rate must lie in 0..1"):
        TrustRegionTeacher(student(), rate=rate)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_ends_of_the_range_are_rates(rate):
    model = student()
    ema, mixed = EmaTeacher(model, rate=rate), TrustRegionTeacher(model, rate=rate)
    step(model)
    ema.update()
    assert torch.allclose(ema.state()["1.bias"], model[1].bias - (1 - rate), atol=1e-6)
    assert mixed.student_share == rate


def test_a_model_without_trainable_weights_has_no_teacher():
    with pytest.raises(ValueError, match="must have trainable parameters, got none"):
        make_teacher(
            nn.Linear(2, 2).requires_grad_(False), "live", ema_rate=0.1, trust_region_rate=0.1
        )


def test_an_update_leaves_no_graph_behind():
    model = student()
    teacher = EmaTeacher(model, rate=0.5)
    teacher.update()
    live = make_teacher(model, "live", ema_rate=0.5, trust_region_rate=0.5)
    for state in (teacher.state(), live.state()):
        assert set(state) == {"1.weight", "1.bias"}
        assert not any(t.requires_grad or t.grad_fn for t in state.values())


def test_the_teachers_value_of_a_weight_is_its_own_in_the_weights_precision():
    model = student(torch.bfloat16)
    teacher = EmaTeacher(model, rate=0.0)
    first = model[1].weight.detach().clone()
    step(model)
    found = teacher.value_of(model[1].weight)
    assert torch.equal(found, first) and found.dtype == torch.bfloat16
    assert torch.equal(teacher.value_of(model[0].weight), model[0].weight)


def features_after_a_step(kind, *, x):
    """What the teacher yields after the student moved and the teacher was updated; and both sides' own."""
    model = student()
    teacher = make_teacher(model, kind, ema_rate=0.25, trust_region_rate=0.25)
    first = model(x).detach()
    step(model)
    teacher.update()
    with torch.no_grad():
        found = teacher.features(lambda: model(x))
        return found, first, model(x)


@pytest.mark.parametrize(
    ("kind", "share"), [("frozen", 0.0), ("ema", 0.25), ("trust_region", 0.25), ("live", 1.0)]
)
def test_each_kind_of_teacher_stands_where_its_formula_says(kind, share):
    # the last layer is linear in its weights, so that mixing weights and mixing outputs agree
    found, first, now = features_after_a_step(kind, x=torch.randn(3, 4))
    assert not torch.equal(first, now)
    assert torch.allclose(found, (1 - share) * first + share * now, atol=1e-6)


def test_the_trust_regions_first_weights_stay_and_its_mixture_follows_the_student():
    model = student()
    teacher = TrustRegionTeacher(model, rate=0.5)
    kept = teacher.state()["1.weight"].clone()
    for _ in range(3):
        step(model)
        teacher.update()
    assert torch.equal(teacher.state()["1.weight"], kept)
    assert teacher.mixes_logits


def test_a_live_teacher_holds_and_saves_nothing(tmp_path):
    teacher = make_teacher(student(), "live", ema_rate=0.05, trust_region_rate=0.05)
    teacher.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    teacher.load(tmp_path)


def test_hidden_states_mixed_before_a_biased_head_give_the_mixed_logits():
    head, model = nn.Linear(2, 9), student()
    teacher = TrustRegionTeacher(model, rate=0.3)
    x = torch.randn(5, 4)
    with torch.no_grad():
        first = head(model(x))
        step(model)
        mixed = head(teacher.features(lambda: model(x)))
        assert torch.allclose(mixed, 0.7 * first + 0.3 * head(model(x)), atol=1e-5)
