# Shared by the scripts of this folder, which source it: the repository's root as working directory,
# messages, and the few things that more than one of them has to know.
set -euo pipefail
started_in=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Compilations are told apart by what they compile, not by where the clone stands.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

# Says what happens, on stderr: stdout is for answers.
say() { echo "${0##*/}: $*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# retry COMMAND...: three tries, for commands that use the network.
retry() {
  local try
  for try in 1 2 3; do
    "$@" && return
    [ "$try" = 3 ] || { say "failed; trying again in $((try * 5)) s: $*"; sleep $((try * 5)); }
  done
  return 1
}

# The lines of a list file without comments and blanks.
entries() { sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$1"; }

# Prints the nvcc of a CUDA 13.0 toolkit that the machine itself has, if any: 13.0 is what libtorch
# was built with, and two CUDA runtimes in one process do not go together.
machine_nvcc() {
  local nvcc
  for nvcc in "${CUDACXX:-}" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
    if [ -x "$nvcc" ] && "$nvcc" --version 2>/dev/null | grep -q 'release 13\.0'; then
      echo "$nvcc"
      return
    fi
  done
}

# The CUDA toolkit that pip put into .venv; prints nothing when there is none.
venv_cuda() { ls -d .venv/lib/python3*/site-packages/nvidia/cu13 2>/dev/null || true; }

# Compilers at a time: one a core, and 2 GiB of memory for each, which libtorch's headers can take.
jobs() {
  local by_memory
  by_memory=$(awk '/^MemAvailable:/ {print int($2 / 2097152)}' /proc/meminfo)
  echo $((by_memory < 1 ? 1 : by_memory < $(nproc) ? by_memory : $(nproc)))
}

# configure PRESET OPTION...: runs CMake where something that decides its outcome has changed. What
# CMake itself watches (CMakeLists.txt and what they include) is left to ninja.
configure() {
  local preset=$1 folder=build-$1 options=("${@:2}") wanted
  [ "$preset" != release ] || folder=build
  wanted="$(sha256sum CMakePresets.json) ${options[*]} ${CC:-} ${CXX:-}"
  if [ ! -e "$folder/build.ninja" ] || [ "$wanted" != "$(cat "$folder/.configured" 2>/dev/null)" ]; then
    say "configuring $folder"
    cmake --preset "$preset" "${options[@]}" >&2
    echo "$wanted" >"$folder/.configured"
  fi
}
