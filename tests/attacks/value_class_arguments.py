class Node:
    def __init__(self, data):
        self.data, self.left, self.right = data, None, None
def f(node):
    return 0 if node is None else 1 + max(f(node.left), f(node.right))
