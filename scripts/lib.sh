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

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root, and there is no sudo: $*"
  fi
}

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

# Prints ON where warnings are errors: with the compiler that CI uses. Another one may have opinions of
# its own.
strict() {
  if "${CXX:-c++}" --version | grep -q '^[^ ]*++[^ ]* (Debian 12\.'; then echo ON; else echo OFF; fi
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

# Of the paths on stdin, those of sources that clang-tidy reads. What includes libtorch would take it
# minutes a file.
lintable() { grep '\.cc$' | grep -v '^runtime/exec/\|^tests/\|^bench/\|^examples/' || true; }

# Lints the sources on stdin, one a core at a time, by the commands of the release build. A source
# that this build does not compile (cuda/no_cuda.cc) is left out: clang-tidy would guess its command.
lint() {
  local file
  while read -r file; do
    if grep -qF "/$file\"" build/compile_commands.json; then echo "$file"; fi
  done | xargs -r -n 1 -P "$(nproc)" clang-tidy-14 -p build --quiet \
    --extra-arg=-Wno-unknown-warning-option 2> >(grep -v 'warnings generated' >&2 || true)
}

# Parses every script without running it.
check_scripts() {
  local script wrong=0 parse='import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])'
  while read -r script; do
    case $(head -n 1 "$script") in
      *python*) .venv/bin/python -c "$parse" "$script" || wrong=1 ;;
      *sh) bash -n "$script" || wrong=1 ;;
    esac
  done < <(grep -rIl '^#!' scripts bench tests docs .ci)
  return $wrong
}

# The version is set in CMakeLists.txt alone. The newest release that CHANGELOG.md tells of must be
# that one.
check_version() {
  local version released
  version=$(sed -n 's/^project(berth VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
  released=$(sed -n 's/^## \[\([0-9][0-9.]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
  [ -n "$version" ] || { say "CMakeLists.txt: no line project(berth VERSION ...)"; return 1; }
  [ "$version" = "$released" ] || {
    say "CHANGELOG.md: its newest release is '$released', but CMakeLists.txt says $version"
    return 1
  }
}
