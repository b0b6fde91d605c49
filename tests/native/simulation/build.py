"""Compile the simulation."""
from __future__ import annotations
import re, subprocess, sys, os
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
HERE = Path(__file__).resolve().parent
CSRC = Path(os.environ.get("MUX_CSRC", HERE.parents[2] / "csrc"))
SMALL = {"MUX_EVENTS": "16", "MUX_ARENA": "3000", "MUX_ARENA_LEAST": "200", "MUX_SCRATCH": "1024", "MUX_EXPIRIES": "3", "MUX_EPOLL_EVENTS":"5","MUX_EPOLL_PARTS":"2","MUX_EPOLL_SENDS":"2","MUX_EPOLL_STALE_MAX":"6","MUX_CHUNK":"300","MUX_POOLED":"3", "SENDS":"2",
 "EVENTS": "5", "PARTS": "2", "STALE_MAX": "6", "CHUNK": "(300 - sizeof(mux_chunk))", "POOLED": "3", "MUX_BLOCK_BITS": "3"}
def build(target, folder, flags, csrc=CSRC):
    folder.mkdir(parents=True, exist_ok=True)
    core = folder / "core"; core.mkdir(exist_ok=True)
    for p in csrc.glob("*.[ch]"):
        if p.name.startswith(("load","_","syscalls.c")): continue
        s = p.read_text()
        for k, v in SMALL.items():
            s = re.sub(rf"(?m)^#define {k} .*?(?=/\*|$)", f"#define {k} {v} ", s)
        (core/p.name).write_text(s)
    files = [*core.glob("*.c"), *[p for p in HERE.glob("*.c") if p.name not in ("real.c","fuzz.c")]]
    objs=[]
    def one(p):
        o = folder/(p.stem+".o")
        subprocess.run(["cc","-std=c11","-g",*flags,"-Wall","-Wextra","-Wshadow","-Wconversion","-Werror",f"-I{core}",f"-I{HERE}","-c",p,"-o",o],check=True)
        return o
    with ThreadPoolExecutor(2) as ex: objs=list(ex.map(one, files))
    subprocess.run(["cc",*flags,"-o",target,*objs],check=True)
if __name__=="__main__":
    f=Path(sys.argv[1]); build(f/"simulate", f, sys.argv[2:] or ["-O2"])
