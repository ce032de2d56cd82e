/* envd/content.h: types by extension and by first bytes. */
#include "envd/content.h"

#include <string.h>
#include <strings.h>

#include "server/base/mem.h"
#include "server/base/str.h"

/* Sorted by extension: bsearch. Text types carry their charset, as clients get it from envd. */
static const struct {
    const char *extension, *type;
} types[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"avi", "video/x-msvideo"},
    {"avif", "image/avif"},
    {"bin", "application/octet-stream"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", "text/x-csrc; charset=utf-8"},
    {"conf", "text/plain; charset=utf-8"},
    {"cpp", "text/x-c++src; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"eot", "application/vnd.ms-fontobject"},
    {"epub", "application/epub+zip"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"h", "text/x-chdr; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"html", "text/html; charset=utf-8"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar; charset=utf-8"},
    {"jar", "application/java-archive"},
    {"java", "text/x-java; charset=utf-8"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"jsonl", "application/jsonl"},
    {"log", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"mid", "audio/midi"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"otf", "font/otf"},
    {"parquet", "application/vnd.apache.parquet"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"ppt", "application/vnd.ms-powerpoint"},
    {"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
    {"ps", "application/postscript"},
    {"py", "text/x-python; charset=utf-8"},
    {"rtf", "application/rtf"},
    {"sh", "application/x-sh"},
    {"sql", "application/sql"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tgz", "application/gzip"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"toml", "application/toml"},
    {"tsv", "text/tab-separated-values; charset=utf-8"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain; charset=utf-8"},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xls", "application/vnd.ms-excel"},
    {"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
    {"xml", "text/xml; charset=utf-8"},
    {"xz", "application/x-xz"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};

const char *content_type_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    size_t low = 0, high = array_size(types);

    if (dot == NULL || strchr(dot, '/') != NULL)
        return NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcasecmp(dot + 1, types[middle].extension);
        if (order == 0)
            return types[middle].type;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

#define SIGNATURE(at, bytes, type)                                                                 \
    {                                                                                              \
        at, sizeof(bytes) - 1, bytes, type                                                         \
    }

/* Exact bytes at an offset. RIFF and ISO files are told by what follows their lengths. */
static const struct {
    size_t at, len;
    const char *bytes, *type;
} signatures[] = {
    SIGNATURE(0, "%PDF-", "application/pdf"),
    SIGNATURE(0, "%!PS-Adobe-", "application/postscript"),
    SIGNATURE(0, "\xfe\xff", "text/plain; charset=utf-16be"),
    SIGNATURE(0, "\xff\xfe", "text/plain; charset=utf-16le"),
    SIGNATURE(0, "\xef\xbb\xbf", "text/plain; charset=utf-8"),
    SIGNATURE(0, "\0\0\1\0", "image/x-icon"),
    SIGNATURE(0, "BM", "image/bmp"),
    SIGNATURE(0, "GIF87a", "image/gif"),
    SIGNATURE(0, "GIF89a", "image/gif"),
    SIGNATURE(8, "WEBPVP", "image/webp"),
    SIGNATURE(0, "\x89PNG\r\n\x1a\n", "image/png"),
    SIGNATURE(0, "\xff\xd8\xff", "image/jpeg"),
    SIGNATURE(8, "WAVE", "audio/wave"),
    SIGNATURE(8, "AVI ", "video/avi"),
    SIGNATURE(0, "ID3", "audio/mpeg"),
    SIGNATURE(0, "OggS\0", "application/ogg"),
    SIGNATURE(0, "MThd\0\0\0\6", "audio/midi"),
    SIGNATURE(4, "ftypmp4", "video/mp4"),
    SIGNATURE(4, "ftypisom", "video/mp4"),
    SIGNATURE(0, "\x1a\x45\xdf\xa3", "video/webm"),
    SIGNATURE(0, "wOFF", "font/woff"),
    SIGNATURE(0, "wOF2", "font/woff2"),
    SIGNATURE(0, "OTTO", "font/otf"),
    SIGNATURE(0, "\0\1\0\0", "font/ttf"),
    SIGNATURE(0, "\x1f\x8b\x08", "application/x-gzip"),
    SIGNATURE(0, "PK\3\4", "application/zip"),
    SIGNATURE(0, "Rar!\x1a\7", "application/x-rar-compressed"),
    SIGNATURE(0, "\0asm", "application/wasm"),
};

/* A tag that opens an HTML document: in any case, then a space or '>'. */
static bool is_html(const char *text, size_t len)
{
    static const char *const tags[] = {
        "<!DOCTYPE HTML", "<HTML", "<HEAD",  "<SCRIPT", "<IFRAME", "<H1",   "<DIV", "<FONT",
        "<TABLE",         "<A",    "<STYLE", "<TITLE",  "<B",      "<BODY", "<BR",  "<P",
    };

    if (len >= 4 && memcmp(text, "<!--", 4) == 0)
        return true;
    for (size_t i = 0; i < array_size(tags); i++) {
        size_t size = strlen(tags[i]);
        if (len > size && strncasecmp(text, tags[i], size) == 0 &&
            (text[size] == ' ' || text[size] == '>'))
            return true;
    }
    return false;
}

static bool is_binary(const unsigned char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] <= 0x08 || data[i] == 0x0b || (data[i] >= 0x0e && data[i] <= 0x1a) ||
            (data[i] >= 0x1c && data[i] <= 0x1f))
            return true;
    return false;
}

const char *content_sniff(const void *data, size_t len)
{
    const char *text = data;
    size_t skip = 0;

    while (skip < len && text[skip] != '\0' && strchr("\t\n\f\r ", text[skip]) != NULL)
        skip++;
    if (is_html(text + skip, len - skip))
        return "text/html; charset=utf-8";
    if (len - skip >= 5 && memcmp(text + skip, "<?xml", 5) == 0)
        return "text/xml; charset=utf-8";
    for (size_t i = 0; i < array_size(signatures); i++)
        if (len >= signatures[i].at + signatures[i].len &&
            memcmp(text + signatures[i].at, signatures[i].bytes, signatures[i].len) == 0)
            return signatures[i].type;
    return is_binary(data, len) ? "application/octet-stream" : "text/plain; charset=utf-8";
}
