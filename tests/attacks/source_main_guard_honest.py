def f(x): return x * x
if __name__ == '__main__':
    print(f(int(input())))
