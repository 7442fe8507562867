import os
top, bottom = "0x" + "b" * 250_000, "0x" + "d" * 250_000
value = '{"F":[{"i":"%s"},{"i":"%s"}]}' % (top, bottom)
os.write(3, ('["load",null]\n["assert",0,null,[%s]]\n["end","",false]\n' % value).encode())
os._exit(0)
