def test_a_demonstration_keeps_its_blanks_and_holds_no_token_of_the_tokenizer():
    from trainer.rollouts import _without_special_tokens

    tokens = ["<|im_end|>", "    ", "~~", "<tool>"]
    code = "def f(x):\n    # caf\u00e9 \u200d\n    return x"
    assert _without_special_tokens(code, tokens) == code
    for hidden in ("<|im_end|>", "<|im_\u200bend|>", "<to\U000e0041ol>", "~~~"):
        text = _without_special_tokens(f"{code}\n    # {hidden}", tokens)
        assert not any(
            token in text.replace("\u200b", "") for token in ("<|im_end|>", "<tool>", "~~")
        )
        assert "\n    return x\n    # " in text
