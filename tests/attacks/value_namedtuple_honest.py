from collections import namedtuple, defaultdict, Counter, OrderedDict
P = namedtuple('P', 'a b')
def f(x):
    d = defaultdict(int); d['a'] += 1
    return [P(1, 2), d, Counter('aa'), OrderedDict(a=1)]
