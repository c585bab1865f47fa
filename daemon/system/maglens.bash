# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for maglens: the tool itself knows its commands.
_maglens() {
    local line
    COMPREPLY=()
    while read -r line; do COMPREPLY+=("$line"); done < <(
        maglens complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null
    )
}
complete -F _maglens maglens
