import { defineCommand } from '../command.ts'
import { UsageError } from '../usage-error.ts'

/** Each asks the executable itself what could come next, so that it knows what that very version has. */
const scripts: Record<string, string> = {
  bash: `_elastic_local() {
  local lines directive
  mapfile -t lines < <("\${COMP_WORDS[0]}" __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null)
  [ "\${#lines[@]}" -gt 0 ] || return
  directive=\${lines[-1]}
  unset 'lines[-1]'
  lines=("\${lines[@]%%$'\\t'*}")
  # bash takes what is behind the "=" for a word of its own.
  [[ \${COMP_WORDS[COMP_CWORD]} == -* ]] || lines=("\${lines[@]#--*=}")
  COMPREPLY=("\${lines[@]}")
  case $directive in
    :0) compopt -o default ;;
    :6) compopt -o nospace ;;
  esac
}
complete -F _elastic_local elastic-local`,
  zsh: `#compdef elastic-local
_elastic_local() {
  local -a lines candidates
  local line directive
  lines=("\${(@f)$("$words[1]" __complete "\${(@)words[2,CURRENT]}" 2> /dev/null)}")
  directive=$lines[-1]
  lines[-1]=()
  for line in $lines; do
    candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}\${\${(M)line:#*$'\\t'*}:+:\${line#*$'\\t'}}")
  done
  if [[ $directive == :0 ]]; then
    compset -P '--*='
    _files
  elif [[ $directive == :6 ]]; then
    _describe elastic-local candidates -S ''
  else
    _describe elastic-local candidates
  fi
}
# zsh runs a file of its fpath as the function itself.
if [[ $funcstack[1] == _elastic-local ]]; then
  _elastic_local
else
  compdef _elastic_local elastic-local
fi`,
  fish: `function __elastic_local_complete
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    set -l lines ($words[1] __complete $words[2..] "$begun" 2> /dev/null)
    test (count $lines) -gt 0; or return
    if test $lines[-1] = :0
        __fish_complete_path (string replace -r -- '^--[^=]*=' '' "$begun")
    else if test (count $lines) -gt 1
        printf '%s\\n' $lines[1..-2]
    end
end
complete --command elastic-local --no-files --arguments '(__elastic_local_complete)'`,
}
const shells = Object.keys(scripts)

export const completionCommand = defineCommand({
  name: 'completion',
  group: 'About',
  args: '<shell>',
  argValues: shells,
  summary: `Print the script that completes this command line in ${shells.join(', ')}`,
  description:
    'bash: source <(elastic-local completion bash), in ~/.bashrc.\n' +
    '\n' +
    'zsh: elastic-local completion zsh > /usr/local/share/zsh/site-functions/_elastic-local\n' +
    '\n' +
    'fish: elastic-local completion fish > ~/.config/fish/completions/elastic-local.fish\n' +
    '\n' +
    'kubectl completes a plugin that has an executable for it: link elastic-local as\n' +
    'kubectl_complete-elastic_local, beside kubectl-elastic_local. It completes "kubectl elastic-local", with a dash.',
  examples: ['elastic-local completion bash > /etc/bash_completion.d/elastic-local'],
  flags: {},
  async run({ args: [shell = ''], say }) {
    const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined
    if (!script) throw new UsageError(`Cannot complete in ${JSON.stringify(shell)} as it must be ${shells.join(', ')}.`)
    say(script)
  },
})
