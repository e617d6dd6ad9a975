# /etc/profile.d/dfget.sh: apptainer and singularity of all users go through the dfget daemon of this node.
# As root, once: dfget ca bundle -O /etc/dragonfly/bundle.crt
export HTTPS_PROXY=http://127.0.0.1:65001 https_proxy=http://127.0.0.1:65001
if [ -r /etc/dragonfly/bundle.crt ]; then
    export SSL_CERT_FILE=/etc/dragonfly/bundle.crt
fi
# Containers begin with the variables of the host; these are of no use in them.
export APPTAINERENV_SSL_CERT_FILE="${APPTAINERENV_SSL_CERT_FILE-}" SINGULARITYENV_SSL_CERT_FILE="${SINGULARITYENV_SSL_CERT_FILE-}"
