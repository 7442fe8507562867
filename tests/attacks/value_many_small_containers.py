import os
os.write(3, b'["load",null]\n["assert",0,null,[[' + b'{"s":[]},' * 100_000 + b'0]]]\n["end","",false]\n')
os._exit(0)
