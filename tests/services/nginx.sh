# nginx from the system's packages. It is unpacked into a folder and not installed, because an installation would start it.
# shellcheck shell=bash disable=SC2154

# Fetches and unpacks the first package that contains the server itself: names differ between Debian and Ubuntu.
nginx_unpack() {
    local candidate
    for candidate in nginx nginx-core nginx-light; do
        (
            cd "$new"
            apt-get download -qq -o APT::Sandbox::User=root "$candidate"
            dpkg-deb -x "$candidate"_*.deb .
            rm -f -- *.deb
        ) || continue
        [ -x "$new/usr/sbin/nginx" ] && return
    done
    die "nginx: none of the packages nginx, nginx-core and nginx-light contains the server"
}

install_nginx() {
    if ! have apt-get; then
        have nginx || die "nginx is missing. This script can use only apt-get: install nginx and run this script again"
        answer "NGINX=$(command -v nginx)"
        return
    fi
    if ! installed nginx; then
        say "nginx from the system's packages into $home"
        if [ -z "${updated:-}" ]; then as_root apt-get update -qq; updated=1; fi
        nginx_unpack
        # Libraries that the server shares with many other programs.
        if ldd "$new/usr/sbin/nginx" | grep -q "not found"; then package libpcre2-8-0 libssl3 zlib1g libcrypt1; fi
        "$new/usr/sbin/nginx" -v || die "nginx: the fetched program does not start"
        keep
    fi
    answer "NGINX=$home/usr/sbin/nginx"
}
