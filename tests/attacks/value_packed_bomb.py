import binascii, os, zlib
packed = binascii.b2a_base64(zlib.compress(b"[" + b"0," * (7 << 20) + b"0]", 9), newline=False).decode()
os.write(3, ('["load",null]\n["assert",0,null,[{"Z":"%s"}]]\n["end","",false]\n' % packed).encode())
os._exit(0)
