import importlib, pkgutil
for module in pkgutil.iter_modules():
    if module.name in ('antigravity', 'idlelib', 'test', 'this', 'turtledemo', 'lib2to3'): continue
    try: importlib.import_module(module.name)
    except BaseException: pass
def f(x): return x * x
