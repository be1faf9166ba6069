# SWAN's start-up as far as kernels see it, step by step in its order. Each step names the file of
# github.com/swan-cern/jupyter-images (or jupyter-extensions) that it stands for; the words are the project's own.
#
# Takes from the test: SESSION (the session's own disk), LCG_VIEW's three parts, SWAN_LIB_DIR, USER_ENV_SCRIPT, PYTHON.

# swan/scripts/before-notebook.d/02_environment.sh: the session has its own folders, whatever is in the user's home ...
export IPYTHONDIR=$SESSION/.ipython
export JUPYTER_CONFIG_DIR=$SESSION/.jupyter
export JUPYTER_PATH=$SESSION/.local/share/jupyter
export KERNEL_DIR=$JUPYTER_PATH/kernels
export PROFILEPATH=$IPYTHONDIR/profile_default
mkdir -p "$PROFILEPATH" "$KERNEL_DIR" "$JUPYTER_CONFIG_DIR"
# ... and the view is named by three variables of the form.
export LCG_VIEW=$ROOT_LCG_VIEW_PATH/$ROOT_LCG_VIEW_NAME/$ROOT_LCG_VIEW_PLATFORM

# swan/Dockerfile, swan/config/kernel.json: the image brings a kernel of its own.
mkdir -p "$KERNEL_DIR/python3"
echo '{"argv": ["python", "-s", "-m", "ipykernel", "-f", "{connection_file}"], "display_name": "Python 3", "language": "python"}' \
    > "$KERNEL_DIR/python3/kernel.json"

# swan/scripts/others/userconfig.sh: the view, then SWAN's own modules before it and after it ...
export JUPYTER_DATA_DIR=$LCG_VIEW/share/jupyter
source "$LCG_VIEW/setup.sh"
export PYTHONPATH=$SWAN_LIB_DIR/extensions/:$PYTHONPATH
export PYTHONPATH=$PYTHONPATH:$SWAN_LIB_DIR/nb_term_lib/
# ... then a copy of the user's script, if its name leads to a file ...
script=$(eval echo "$USER_ENV_SCRIPT")
if [[ -n $script && -f $script ]]; then
    copy=$(mktemp)
    cat "$script" > "$copy"
    source "$copy"
fi
# ... then every kernel gets the environment of this moment, in which the session's values win, and the session's python ...
# (swan/python/configure_kernels_and_terminal.py)
"$PYTHON" -I - <<'REWRITE' || exit 1
import json, os, pathlib, re, shutil
for name in os.listdir(os.environ["KERNEL_DIR"]):
    file = pathlib.Path(os.environ["KERNEL_DIR"], name, "kernel.json")
    kernel = json.loads(file.read_text())
    kernel["env"] = {**kernel.get("env", {}), **os.environ}
    if re.match("python[0-9.]*", kernel["argv"][0]):
        kernel["argv"][0] = shutil.which("python3")
    file.write_text(json.dumps(kernel))
REWRITE
# ... and IPython's profile loads SWAN's extension, which jupyter-extensions/SwanKernelEnv brings in $SWAN_LIB_DIR.
echo "c.InteractiveShellApp.extensions.append('swankernelenv')" >> "$PROFILEPATH/ipython_kernel_config.py"

echo "the session is there"
