"""The services' images, built and run as on a cluster. By hand (`make images-check`): it wants podman and some GB."""
