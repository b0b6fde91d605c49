#!/bin/sh
# The C core under the sanitizers, and under valgrind where it is installed.
#
#   PYTHON   the interpreter, with pytest and what the build needs; python3 if it is not set
#   CC       the compiler; cc
#
# First the C test programs, those of the loop on both scripted backends, each built anew: address + undefined
# behaviour, thread, valgrind (the simulation has a target of its own). Then both suites, the engine's own tests
# and the load generator's, on a core that is itself built with address + undefined behaviour, in a folder of
# its own.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
export CC="${CC:-cc}"
pytest() { "$python" -m pytest -q -p no:cacheprovider -n 2 --dist worksteal "$@"; }

echo "== C programs: address, undefined behaviour"
MUXCORE_SANITIZE=address,undefined UBSAN_OPTIONS=halt_on_error=1 pytest tests/native/test_units.py
echo "== C programs: threads"
# the kernel's address randomization may leave no room for TSan's shadow: setarch -R turns it off
MUXCORE_SANITIZE=thread MUXCORE_TEST_WRAPPER="$(setarch -R true 2>/dev/null && echo setarch -R)" \
    pytest tests/native/test_units.py
if command -v valgrind >/dev/null; then
    echo "== C programs: valgrind"
    MUXCORE_FAULT_DEPTH=2 MUXCORE_TEST_WRAPPER="valgrind -q --error-exitcode=9 --leak-check=full" \
        pytest tests/native/test_units.py
else
    echo "valgrind is not installed: left out"
fi

echo "== Python tests on a core with address + undefined-behaviour sanitizers"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r setup.py pyproject.toml README.md csrc muxcore tests "$work"
rm -f "$work"/muxcore/native/_core*.so
cd "$work" # with "python -m" the package comes from here, whatever is installed
CFLAGS="-O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer" \
    LDFLAGS="-fsanitize=address,undefined" MUXCORE_BUILD=native \
    "$python" setup.py -q build_ext --inplace --build-temp build >build.log 2>&1 ||
    { cat build.log; exit 1; }
# Python itself leaks by design at exit, so leaks are the C programs' business
LD_PRELOAD="$("$CC" -print-file-name=libasan.so):$("$CC" -print-file-name=libubsan.so)"
export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
used=$("$python" -c 'import muxcore.native._core as core; print(core.__file__)')
case "$used" in
"$work"/*) ;;
*) echo "the tests would run on $used, which is not the sanitized core" >&2 && exit 1 ;;
esac
pytest tests/contract tests/survival tests/load tests/native tests/aio/test_verbs.py tests/aio/test_movers.py \
    -k "native and not test_unit and not simulation"
