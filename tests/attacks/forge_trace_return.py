import sys
def tracer(frame, event, arg):
    if event == 'return':
        frame.f_locals['shipped'] = [9]
    return tracer
sys.settrace(tracer)
sys.setprofile(tracer)
def f(x): return 0
