# nginx from the system's packages, unpacked beside the system and not installed into it: an installation would start it.
# shellcheck shell=bash disable=SC2154

# Fetches and unpacks the first package that holds the server itself: names differ between Debian and Ubuntu.
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
    die "nginx: none of the packages nginx, nginx-core and nginx-light has it"
}

install_nginx() {
    if ! have apt-get; then
        have nginx || die "nginx: knows apt-get only: install nginx and run this again"
        answer "NGINX=$(command -v nginx)"
        return
    fi
    if ! installed nginx; then
        say "nginx from the system's packages into $home"
        if [ -z "${updated:-}" ]; then as_root apt-get update -qq; updated=1; fi
        nginx_unpack
        # Libraries that the server shares with half the system.
        if ldd "$new/usr/sbin/nginx" | grep -q "not found"; then package libpcre2-8-0 libssl3 zlib1g libcrypt1; fi
        "$new/usr/sbin/nginx" -v || die "nginx: what was fetched does not start"
        keep
    fi
    answer "NGINX=$home/usr/sbin/nginx"
}
