help([[
Lets apptainer, singularity, oras, crane, curl and their like go through the dfget
daemon of this node. To go without it: module unload dfget
]])
whatis("Name: dfget")
whatis("Description: container images from this node's cache and from other nodes")

local proxy = "http://127.0.0.1:65001"
-- As root, once: dfget ca bundle -O /etc/dragonfly/bundle.crt
local bundle = "/etc/dragonfly/bundle.crt"

-- Programs have it by either name.
setenv("HTTPS_PROXY", proxy)
setenv("https_proxy", proxy)
if isFile(bundle) then
    setenv("SSL_CERT_FILE", bundle)
    setenv("CURL_CA_BUNDLE", bundle)
    setenv("REQUESTS_CA_BUNDLE", bundle)
end
