# OpenSearch from Maven: the distribution without modules, plus the modules that tests need, which are separate packages.
# shellcheck shell=bash disable=SC2154
# shellcheck source=tests/services/java.sh
. "$folder/java.sh"
opensearch_version=3.4.0

# opensearch_module NAME CLASS EXTENDED JAR-PREFIX...: builds a module of the distribution from jars. A jar that the server already
# contains must not exist twice.
opensearch_module() {
    local name="$1" class="$2" extended="$3" prefix jar folder="$new/modules/$1"
    shift 3
    mkdir -p "$folder"
    for prefix in "$@"; do
        for jar in "$jars/$prefix"-[0-9]*.jar; do
            [ -f "$jar" ] || die "opensearch: Maven did not fetch $prefix, which the module $name needs"
            [ -e "$new/lib/${jar##*/}" ] || cp "$jar" "$folder/"
        done
    done
    printf '%s\n' "name=$name" "description=$name" "version=$opensearch_version" "opensearch.version=$opensearch_version" \
        java.version=21 "classname=$class" "extended.plugins=$extended" has.native.controller=false custom.foldername= \
        >"$folder/plugin-descriptor.properties"
}

opensearch_fetch() {
    local artifact
    {
        printf '%s' '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>' \
            '<groupId>tailwater</groupId><artifactId>services</artifactId><version>1</version><packaging>pom</packaging><dependencies>' \
            '<dependency><groupId>org.opensearch.distribution.integ-test-zip</groupId><artifactId>opensearch</artifactId>' \
            "<version>$opensearch_version</version><type>zip</type></dependency>"
        for artifact in analysis-common ingest-common mapper-extras-client lang-painless reindex-client; do
            printf '%s' "<dependency><groupId>org.opensearch.plugin</groupId><artifactId>$artifact</artifactId>" \
                "<version>$opensearch_version</version></dependency>"
        done
        printf '%s\n' '</dependencies></project>'
    } >"$new/pom.xml"
    mvn -q -B -Dstyle.color=never -f "$new/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        "-DoutputDirectory=$jars" || die "opensearch: Maven could not fetch $opensearch_version; see above"
}

opensearch_assemble() {
    unzip -q "$jars/opensearch-$opensearch_version.zip" -d "$new"
    mv "$new/opensearch-$opensearch_version"/* "$new/"
    rmdir "$new/opensearch-$opensearch_version"
    # Tests do not need this module, and it would listen on an additional port.
    rm -rf "$new/modules/transport-grpc"
    local ingest=org.opensearch.ingest.common.IngestCommonModulePlugin
    opensearch_module lang-painless org.opensearch.painless.PainlessModulePlugin "" \
        lang-painless opensearch-scripting-painless-spi antlr4-runtime asm asm-analysis asm-commons asm-tree asm-util
    opensearch_module analysis-common org.opensearch.analysis.common.CommonAnalysisModulePlugin lang-painless analysis-common
    opensearch_module ingest-common "$ingest" lang-painless ingest-common opensearch-grok opensearch-dissect joni jcodings
    opensearch_module mapper-extras org.opensearch.index.mapper.MapperExtrasModulePlugin "" mapper-extras-client
    opensearch_module reindex org.opensearch.index.reindex.ReindexModulePlugin "" reindex-client opensearch-rest-client \
        opensearch-ssl-config httpclient5 httpcore5 httpcore5-h2 httpcore5-reactive commons-codec commons-logging slf4j-api
}

install_opensearch() {
    find_java opensearch
    if ! installed "opensearch-$opensearch_version"; then
        have mvn || package maven
        have unzip || package unzip
        say "opensearch $opensearch_version from Maven into $home"
        local jars="$new/jars" version
        opensearch_fetch
        opensearch_assemble
        version="$("$java" -Dopensearch.path.home="$new" -Dopensearch.path.conf="$new/config" -Dopensearch.distribution.type=zip \
            -Dopensearch.bundled_jdk=false -cp "$new/lib/*" org.opensearch.bootstrap.OpenSearch --version)"
        [[ "$version" == *"$opensearch_version"* ]] || die "opensearch: expected version $opensearch_version, but the fetched program reports: $version"
        rm -rf "$jars" "$new/pom.xml"
        keep
    fi
    answer "OPENSEARCH_HOME=$home"
    answer "OPENSEARCH_JAVA=$java"
}
