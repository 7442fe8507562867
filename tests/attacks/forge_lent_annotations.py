def f(x: Union[int, Mystery]) -> Optional[int]:
    return x * x
