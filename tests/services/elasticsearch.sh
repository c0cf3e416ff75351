# Elasticsearch from Maven: the distribution that contains only the modules of its basic license.
# shellcheck shell=bash disable=SC2154
# shellcheck source=tests/services/java.sh
. "$folder/java.sh"
elasticsearch_version=8.19.21

install_elasticsearch() {
    find_java elasticsearch
    if ! installed "elasticsearch-$elasticsearch_version"; then
        have mvn || package maven
        have unzip || package unzip
        say "elasticsearch $elasticsearch_version from Maven into $home"
        local name="elasticsearch-$elasticsearch_version"
        mvn -q -B -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy "-DoutputDirectory=$new" \
            "-Dartifact=org.elasticsearch.distribution.integ-test-zip:elasticsearch:$elasticsearch_version:zip" ||
            die "elasticsearch: Maven could not fetch $elasticsearch_version; see above"
        unzip -q "$new/$name.zip" -d "$new"
        mv "$new/$name"/* "$new/"
        rmdir "$new/$name"
        rm "$new/$name.zip"
        [ -x "$new/bin/elasticsearch" ] || die "elasticsearch: the fetched archive has no bin/elasticsearch"
        keep
    fi
    answer "ELASTICSEARCH_HOME=$home"
    answer "ELASTICSEARCH_JAVA=${java%/bin/java}"
}
