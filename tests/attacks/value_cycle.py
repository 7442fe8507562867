def f(x):
    value = []
    value.append(value)
    table = {}
    table['self'] = table
    return [value, table]
