"""load_checkpoint_and_dispatch() gives the logits of accelerate's, from Berth's memory."""

import pytest
import torch

import berth

accelerate = pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers", minversion="5.0")
transformers.logging.set_verbosity_error()

IDS = torch.arange(1, 20)[None]


def config(**changes):
    return transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=101, max_position_embeddings=64, **changes,
    )


def empty(**changes):
    with accelerate.init_empty_weights():
        model = transformers.AutoModelForCausalLM.from_config(config(**changes))
    model.tie_weights()
    return model.eval()


@pytest.fixture(params=[False, True], ids=["plain", "tied"])
def saved(request, tmp_path):
    torch.manual_seed(0)
    changes = {"tie_word_embeddings": request.param}
    model = transformers.AutoModelForCausalLM.from_config(config(**changes)).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        return tmp_path, changes, model(IDS).logits


SPREAD = {"model.embed_tokens": "cpu", "lm_head": "cpu", "model.norm": "cpu",
          "model.rotary_emb": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk",
          "model.layers.2": "disk", "model.layers.3": "cpu"}


@pytest.mark.parametrize("places", [None, {"": "cpu"}, SPREAD], ids=["none", "cpu", "spread"])
@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_logits_are_the_same(saved, places, name):
    folder, changes, logits = saved
    model = berth.load_checkpoint_and_dispatch(empty(**changes), folder / name, device_map=places)
    for _ in range(2):  # hooks offload again what they have loaded
        with torch.no_grad():
            assert torch.equal(model(IDS).logits, logits)
    places_used = {"cpu", "disk"} if places is SPREAD else {"cpu"}
    assert set(model.berth_report.after_load) == places_used
    held = sum(p.numel() * 4 for p in model.parameters() if p.device.type != "meta")
    assert held == model.berth_report.after_load["cpu"]


def test_it_is_what_accelerate_gives(saved, tmp_path):
    folder, changes, _ = saved
    theirs = accelerate.load_checkpoint_and_dispatch(
        empty(**changes), str(folder / "model.safetensors"), device_map=dict(SPREAD),
        offload_folder=str(tmp_path / "offload"), dtype=torch.bfloat16,
    )
    ours = berth.load_checkpoint_and_dispatch(
        empty(**changes), folder, device_map=SPREAD, dtype=torch.bfloat16
    )
    with torch.no_grad():
        assert torch.equal(ours(IDS).logits, theirs(IDS).logits)
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert (name, a.dtype, a.device) == (other, b.dtype, b.device)


def test_the_planner_places(saved):
    folder, changes, logits = saved
    layer = sum(p.numel() * 4 for p in empty(**changes).model.layers[0].parameters())
    total = sum(p.numel() * 4 for p in empty(**changes).parameters())
    model = berth.load_checkpoint_and_dispatch(
        empty(**changes), folder, max_memory={"cpu": total - layer, "disk": total}
    )
    assert "disk" in model.hf_device_map.values()
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, logits)
    with pytest.raises(berth.DoesNotFit):
        berth.load_checkpoint_and_dispatch(
            empty(**changes), folder, max_memory={"cpu": layer, "disk": layer}
        )


def test_a_model_that_is_no_transformer(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8)).eval()
    torch.save(model.state_dict(), tmp_path / "model.bin")
    with torch.device("meta"):
        other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8)).eval()
    berth.load_checkpoint_and_dispatch(
        other, tmp_path / "model.bin", device_map={"0": "disk", "1": "cpu"}, strict=True
    )
    x = torch.randn(3, 4)
    with torch.no_grad():
        assert torch.equal(other(x), model(x))


def test_errors_have_names(saved, tmp_path):
    folder, changes, _ = saved
    with pytest.raises(berth.UsageError, match="is none of auto"):
        berth.load_checkpoint_and_dispatch(empty(**changes), folder, device_map="quick")
    with pytest.raises(berth.NoSuchFile):
        berth.load_checkpoint_and_dispatch(empty(**changes), tmp_path / "none", device_map=None)
    small = torch.nn.Linear(2, 2)
    torch.save({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, tmp_path / "small.bin")
    with pytest.raises(berth.Error, match=r"'weight' has shape \[3, 3\]"):
        berth.load_checkpoint_and_dispatch(small, tmp_path / "small.bin", device_map=None)
    torch.save({"bias": torch.zeros(2)}, tmp_path / "small.bin")
    with pytest.raises(berth.Error, match="the checkpoint lacks 1 tensors, such as 'weight'"):
        berth.load_checkpoint_and_dispatch(small, tmp_path / "small.bin", device_map=None,
                                           strict=True)
