import os, time
# A result that begins and never ends.
def f(x):
    os.write(3, b'["load",null]\n["assert",0,null,["')
    while True:
        os.write(3, b'x')
        time.sleep(0.005)
