/* What `base` has around /usr: folders, links and small files, written here in full. */
#include <stddef.h>
#include <sys/stat.h>

#include "server/base/mem.h"
#include "server/engine/local/rootfs_base.h"

#define PATH_TEXT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char passwd_text[] = "root:x:0:0:root:/root:/bin/bash\n"
                                  "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
                                  "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
                                  "sys:x:3:3:sys:/dev:/usr/sbin/nologin\n"
                                  "sync:x:4:65534:sync:/bin:/bin/sync\n"
                                  "man:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
                                  "mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
                                  "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
                                  "backup:x:34:34:backup:/var/backups:/usr/sbin/nologin\n"
                                  "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
                                  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
                                  "user:x:1000:1000::/home/user:/bin/bash\n";

static const char group_text[] = "root:x:0:\n"
                                 "daemon:x:1:\n"
                                 "bin:x:2:\n"
                                 "sys:x:3:\n"
                                 "adm:x:4:\n"
                                 "tty:x:5:\n"
                                 "disk:x:6:\n"
                                 "man:x:12:\n"
                                 "mail:x:8:\n"
                                 "kmem:x:15:\n"
                                 "dialout:x:20:\n"
                                 "cdrom:x:24:\n"
                                 "sudo:x:27:user\n"
                                 "audio:x:29:\n"
                                 "www-data:x:33:\n"
                                 "backup:x:34:\n"
                                 "shadow:x:42:\n"
                                 "utmp:x:43:\n"
                                 "video:x:44:\n"
                                 "staff:x:50:\n"
                                 "games:x:60:\n"
                                 "users:x:100:\n"
                                 "ssh:x:101:\n"
                                 "nogroup:x:65534:\n"
                                 "user:x:1000:\n";

/* No password at all: nobody logs in with one. */
static const char shadow_text[] = "root:*:19700:0:99999:7:::\n"
                                  "daemon:*:19700:0:99999:7:::\n"
                                  "bin:*:19700:0:99999:7:::\n"
                                  "sys:*:19700:0:99999:7:::\n"
                                  "sync:*:19700:0:99999:7:::\n"
                                  "man:*:19700:0:99999:7:::\n"
                                  "mail:*:19700:0:99999:7:::\n"
                                  "www-data:*:19700:0:99999:7:::\n"
                                  "backup:*:19700:0:99999:7:::\n"
                                  "_apt:*:19700:0:99999:7:::\n"
                                  "nobody:*:19700:0:99999:7:::\n"
                                  "user:*:19700:0:99999:7:::\n";

static const char sudoers_text[] = "Defaults env_reset\n"
                                   "Defaults secure_path=\"" PATH_TEXT "\"\n"
                                   "root ALL=(ALL:ALL) ALL\n"
                                   "user ALL=(ALL:ALL) NOPASSWD: ALL\n"
                                   "@includedir /etc/sudoers.d\n";

static const char pam_text[] = "auth sufficient pam_permit.so\n"
                               "account sufficient pam_permit.so\n"
                               "password required pam_unix.so yescrypt\n"
                               "session required pam_permit.so\n";

static const char pam_su_text[] = "auth sufficient pam_rootok.so\n"
                                  "auth required pam_unix.so\n"
                                  "account required pam_unix.so\n"
                                  "session required pam_permit.so\n";

static const char pam_other_text[] = "auth required pam_deny.so\n"
                                     "account required pam_deny.so\n"
                                     "password required pam_deny.so\n"
                                     "session required pam_deny.so\n";

static const char hosts_text[] = "127.0.0.1 localhost\n"
                                 "127.0.1.1 " BASE_HOSTNAME "\n"
                                 "::1 localhost ip6-localhost ip6-loopback\n"
                                 "ff02::1 ip6-allnodes\n"
                                 "ff02::2 ip6-allrouters\n";

static const char nsswitch_text[] = "passwd: files\n"
                                    "group: files\n"
                                    "shadow: files\n"
                                    "gshadow: files\n"
                                    "hosts: files dns\n"
                                    "networks: files\n"
                                    "protocols: files\n"
                                    "services: files\n"
                                    "ethers: files\n"
                                    "rpc: files\n";

static const char profile_text[] = "PATH=\"" PATH_TEXT "\"\n"
                                   "export PATH\n"
                                   "if [ \"${BASH-no}\" != no ] && [ -f /etc/bash.bashrc ]; then\n"
                                   "    . /etc/bash.bashrc\n"
                                   "fi\n"
                                   "for file in /etc/profile.d/*.sh; do\n"
                                   "    if [ -r \"$file\" ]; then . \"$file\"; fi\n"
                                   "done\n"
                                   "unset file\n";

static const char bashrc_text[] = "[ -z \"$PS1\" ] && return\n"
                                  "shopt -s checkwinsize\n"
                                  "PS1='\\u@\\h:\\w\\$ '\n";

static const char home_bashrc_text[] = "case $- in *i*) ;; *) return ;; esac\n"
                                       "HISTCONTROL=ignoreboth\n"
                                       "HISTSIZE=1000\n"
                                       "HISTFILESIZE=2000\n"
                                       "shopt -s histappend checkwinsize\n"
                                       "alias ls='ls --color=auto'\n"
                                       "alias ll='ls -alF'\n"
                                       "PS1='\\u@\\h:\\w\\$ '\n";

static const char home_profile_text[] =
    "if [ -n \"$BASH_VERSION\" ] && [ -f \"$HOME/.bashrc\" ]; then\n"
    "    . \"$HOME/.bashrc\"\n"
    "fi\n"
    "for folder in \"$HOME/bin\" \"$HOME/.local/bin\"; do\n"
    "    if [ -d \"$folder\" ]; then PATH=\"$folder:$PATH\"; fi\n"
    "done\n"
    "unset folder\n";

#define DIR_ENTRY(path, mode)                                                                      \
    {                                                                                              \
        path, S_IFDIR | (mode), 0, NULL                                                            \
    }
#define LINK_ENTRY(path, to)                                                                       \
    {                                                                                              \
        path, S_IFLNK | 0777, 0, to                                                                \
    }
#define FILE_ENTRY(path, mode, text)                                                               \
    {                                                                                              \
        path, S_IFREG | (mode), 0, text                                                            \
    }

const struct base_entry base_entries[] = {
    DIR_ENTRY("dev", 0755),
    DIR_ENTRY("proc", 0555),
    DIR_ENTRY("sys", 0555),
    DIR_ENTRY("usr", 0755),
    DIR_ENTRY("boot", 0755),
    DIR_ENTRY("media", 0755),
    DIR_ENTRY("mnt", 0755),
    DIR_ENTRY("opt", 0755),
    DIR_ENTRY("srv", 0755),
    DIR_ENTRY("tmp", 01777),
    DIR_ENTRY("root", 0700),
    FILE_ENTRY("root/.bashrc", 0644, home_bashrc_text),
    FILE_ENTRY("root/.profile", 0644, home_profile_text),
    DIR_ENTRY("home", 0755),
    {"home/user", S_IFDIR | 0755, BASE_USER_ID, NULL},
    {"home/user/.bashrc", S_IFREG | 0644, BASE_USER_ID, home_bashrc_text},
    {"home/user/.profile", S_IFREG | 0644, BASE_USER_ID, home_profile_text},
    {"home/user/.bash_logout", S_IFREG | 0644, BASE_USER_ID, ""},
    DIR_ENTRY("run", 0755),
    DIR_ENTRY("run/lock", 01777),
    DIR_ENTRY("run/sudo", 0711),
    DIR_ENTRY("var", 0755),
    DIR_ENTRY("var/backups", 0755),
    DIR_ENTRY("var/cache", 0755),
    DIR_ENTRY("var/cache/apt", 0755),
    DIR_ENTRY("var/cache/apt/archives", 0755),
    DIR_ENTRY("var/cache/apt/archives/partial", 0755),
    DIR_ENTRY("var/lib", 0755),
    DIR_ENTRY("var/lib/apt", 0755),
    DIR_ENTRY("var/lib/apt/lists", 0755),
    DIR_ENTRY("var/lib/apt/lists/partial", 0755),
    DIR_ENTRY("var/lib/misc", 0755),
    DIR_ENTRY("var/lib/sudo", 0700),
    DIR_ENTRY("var/local", 0755),
    DIR_ENTRY("var/log", 0755),
    DIR_ENTRY("var/log/apt", 0755),
    DIR_ENTRY("var/mail", 0775),
    DIR_ENTRY("var/opt", 0755),
    DIR_ENTRY("var/spool", 0755),
    DIR_ENTRY("var/tmp", 01777),
    LINK_ENTRY("var/run", "/run"),
    LINK_ENTRY("var/lock", "/run/lock"),
    DIR_ENTRY("etc", 0755),
    DIR_ENTRY("etc/default", 0755),
    DIR_ENTRY("etc/ld.so.conf.d", 0755),
    DIR_ENTRY("etc/pam.d", 0755),
    DIR_ENTRY("etc/profile.d", 0755),
    DIR_ENTRY("etc/security", 0755),
    DIR_ENTRY("etc/skel", 0755),
    DIR_ENTRY("etc/ssl", 0755),
    DIR_ENTRY("etc/sudoers.d", 0750),
    FILE_ENTRY("etc/passwd", 0644, passwd_text),
    FILE_ENTRY("etc/group", 0644, group_text),
    FILE_ENTRY("etc/shadow", 0600, shadow_text),
    FILE_ENTRY("etc/gshadow", 0600, ""),
    FILE_ENTRY("etc/subuid", 0644, ""),
    FILE_ENTRY("etc/subgid", 0644, ""),
    FILE_ENTRY("etc/shells", 0644, "/bin/sh\n/bin/bash\n/usr/bin/bash\n"),
    FILE_ENTRY("etc/sudoers", 0440, sudoers_text),
    FILE_ENTRY("etc/pam.d/sudo", 0644, pam_text),
    FILE_ENTRY("etc/pam.d/passwd", 0644, pam_text),
    FILE_ENTRY("etc/pam.d/su", 0644, pam_su_text),
    FILE_ENTRY("etc/pam.d/runuser", 0644, pam_su_text),
    FILE_ENTRY("etc/pam.d/other", 0644, pam_other_text),
    FILE_ENTRY("etc/hosts", 0644, hosts_text),
    FILE_ENTRY("etc/hostname", 0644, BASE_HOSTNAME "\n"),
    FILE_ENTRY("etc/resolv.conf", 0644, "nameserver 10.0.2.3\n"), /* egress.h: the resolver */
    FILE_ENTRY("etc/nsswitch.conf", 0644, nsswitch_text),
    FILE_ENTRY("etc/host.conf", 0644, "multi on\n"),
    FILE_ENTRY("etc/profile", 0644, profile_text),
    FILE_ENTRY("etc/bash.bashrc", 0644, bashrc_text),
    FILE_ENTRY("etc/environment", 0644, "PATH=\"" PATH_TEXT "\"\n"),
    FILE_ENTRY("etc/skel/.bashrc", 0644, home_bashrc_text),
    FILE_ENTRY("etc/skel/.profile", 0644, home_profile_text),
    FILE_ENTRY("etc/timezone", 0644, "Etc/UTC\n"),
    LINK_ENTRY("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
    LINK_ENTRY("etc/os-release", "../usr/lib/os-release"),
    LINK_ENTRY("etc/mtab", "../proc/self/mounts"),
    FILE_ENTRY("etc/fstab", 0644, ""),
};
const size_t base_entry_count = array_size(base_entries);
