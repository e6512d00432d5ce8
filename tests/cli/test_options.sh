#!/bin/sh
# What all subcommands share: help, version, and one clear line for a wrong command line.
. "$(dirname "$0")/../tap.sh"

passes 'mra --version' "$mra" --version
prints 'says name and number' '^mra [0-9]+\.[0-9]+\.[0-9]+$'
version=$(cat "$work/stdout")
passes 'mra --help' "$mra" --help
prints 'shows the usage' '^usage:'
for command in methods attend grad audit bench train dump data; do
    run "$mra" --help
    prints "mra --help lists $command" "^  $command +[a-z]"
    passes "mra $command --help" "$mra" $command --help
    prints "mra $command --help shows the usage" "^  mra $command"
    for option in seed threads device quiet help version; do
        grep -q -- "^  --$option" "$work/stdout" || break
    done
    grep -q -- "^  --$option" "$work/stdout"
    ok $? "mra $command --help names the common options"
    longest=$(awk '/^examples:/ { exit } { if (length($0) > most) most = length($0) } END { print most }' "$work/stdout")
    [ "$longest" -le 80 ]
    ok $? "mra $command --help keeps its lines short"
    [ ! -s "$work/stderr" ]
    ok $? "mra $command --help leaves stderr alone"
    run "$mra" help $command
    prints "mra help $command is the same" "^mra $command: "
    run "$mra" $command --version
    [ "$(cat "$work/stdout")" = "$version" ]
    ok $? "mra $command --version"
    refuses "mra $command refuses an unknown option" "mra: $command: .*'--no-such'.*mra $command --help" \
        "$mra" $command --no-such
    refuses "mra $command refuses an unknown letter" "mra: $command: .*'-z'" "$mra" $command -z
    refuses "mra $command refuses a value for a flag" '--quiet takes no value' "$mra" $command --quiet=yes
    refuses "mra $command refuses a seed that is no number" "--seed: 'x'" "$mra" $command --seed x
    refuses "mra $command refuses zero threads" "--threads: '0'" "$mra" $command --threads 0
done

refuses 'no subcommand' 'subcommand is missing.*--help' "$mra"
refuses 'an unknown subcommand' "'nosuch'.*--help" "$mra" nosuch
refuses 'help for an unknown subcommand' "'nosuch'" "$mra" help nosuch
refuses 'a negative seed' "--seed: '-1'" "$mra" methods --seed -1
refuses 'a seed of more than 64 bits' '--seed' "$mra" methods --seed 18446744073709551616
passes 'the largest seed' "$mra" methods --seed 18446744073709551615
refuses 'too many threads' "--threads: '9999'" "$mra" methods --threads 9999
refuses 'an option that lacks its value' '--seed needs S' "$mra" methods --seed
refuses 'a seed given twice' '--seed is given twice' "$mra" methods --seed 1 --seed 2
passes 'options may follow operands, and -- ends them' "$mra" methods --quiet -- exact
refuses 'after -- everything is an operand' "unknown method '--quiet'" "$mra" methods -- --quiet
refuses 'a newline in an argument is no second line' 'no.such' "$mra" methods 'no
such'
finish
